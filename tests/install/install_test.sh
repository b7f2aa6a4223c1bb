#!/bin/bash
# What must hold: an installed Sluice is where a distribution expects it, and a project that knows nothing of this tree
# builds against it, with find_package(Sluice) and with pkg-config, each public header included.
#   install_test.sh SOURCE_DIR BUILD_DIR VERSION CXX_FLAGS
# CXX_FLAGS: of a sanitizer build, whose library needs its users to have them too. Writes only to a temporary directory.
set -euo pipefail
source_dir=$1 build_dir=$2 version=$3 flags=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

failed=0
fail() { echo "install_test: $*" >&2; failed=1; }
there() { [ -e "$prefix/$1" ] || fail "$1 was not installed"; }

cmake --install "$build_dir" --prefix "$prefix" >"$work/install.log" || { cat "$work/install.log"; exit 1; }
lib=$(cd "$prefix" && dirname "$(find . -name libsluice.so | sed 's|^\./||')")

# --- files where they belong ---
there "$lib/libsluice.so.$version"
soname=$(readelf -d "$prefix/$lib/libsluice.so" | sed -nE 's/.*SONAME.*\[(.*)\]/\1/p')
[ "$soname" = libsluice.so.0 ] || fail "soname is '$soname', not libsluice.so.0"
there "$lib/$soname"
there "$lib/cmake/Sluice/SluiceConfig.cmake"
there "$lib/cmake/Sluice/SluiceConfigVersion.cmake"
there "$lib/pkgconfig/sluice.pc"
there include/sluice/shm/base/result.h
there include/sluice/shm/base/types.h
there lib/systemd/system/sluiced.service
there lib/sysusers.d/sluice.conf
for program in sluiced sluice sluice-perf; do
  # A build without a part (benchmarks off) installs without it.
  [ -z "$(find "$build_dir" -type f -name "$program" -perm -u+x -print -quit)" ] || there "bin/$program"
done
for header in "$source_dir"/sdk/include/sluice/*.h; do there "include/sluice/$(basename "$header")"; done

# The ledger, as far as it is built, and in the end a program outside that uses all of it.
parts=() ledger_headers=()
for part in ledger ledger_sqlite ledger_postgres; do
  file=libsluice-${part//_/-}.so
  [ -n "$(find "$build_dir" -name "$file" -print -quit)" ] || continue
  parts+=("$part")
  there "$lib/$file.0"
  there "$lib/cmake/Sluice/Sluice-$part.cmake"
done
for header in "$source_dir"/sdk/ledger/include/sluice/ledger/*.h; do
  header=$(basename "$header" .h)
  case " ledger_connection ledger_key ledger_ledger ${parts[*]} " in
    *" ledger_$header "*) there "include/sluice/ledger/$header.h"; ledger_headers+=("$header.h") ;;
  esac
done
for page in "$source_dir"/docs/man/*.[158]; do
  [ -e "$page" ] && there "share/man/man${page##*.}/$(basename "$page")"
done
[ -e "$source_dir/sdk/cli/completion/sluice.bash" ] && there share/bash-completion/completions/sluice
[ -e "$source_dir/systemd/sluiced.toml" ] && there etc/sluice/sluiced.toml

# Only what is exported on purpose, and nothing of the build's own directories.
unwanted=$(find "$prefix" -type f \( -name '*.a' -o -name '*.cc' -o -name '*.capnp*' -o -path '*/gtest/*' \))
[ -z "$unwanted" ] || fail "installed, but should not be: $unwanted"
if grep -rlF "$build_dir" "$prefix/$lib/cmake" "$prefix/$lib/pkgconfig" "$prefix/include" "$prefix/lib/systemd"; then
  fail "the files above name the build directory"
fi

grep -qF "ExecStart=$prefix/bin/sluiced --config $prefix/etc/sluice/" "$prefix/lib/systemd/system/sluiced.service" ||
  fail "the unit does not start what was installed: $(grep ^ExecStart= "$prefix/lib/systemd/system/sluiced.service")"

# --- the unit, where systemd is installed ---
if command -v systemd-analyze >/dev/null && [ -e /usr/lib/systemd/system/sysinit.target ]; then
  root=$work/root
  mkdir -p "$root/usr/lib/systemd/system" "$root/usr/bin"
  cp /usr/lib/systemd/system/*.target /usr/lib/systemd/system/*.slice "$root/usr/lib/systemd/system/"
  sed "s|^ExecStart=[^ ]*|ExecStart=/usr/bin/sluiced|" "$prefix/lib/systemd/system/sluiced.service" \
    >"$root/usr/lib/systemd/system/sluiced.service"
  cp "$(type -P true)" "$root/usr/bin/sluiced"
  cp "$(type -P kill)" "$root/usr/bin/kill"
  # Where systemd-analyze itself cannot start (no cgroups, say) it says so about an untouched unit as well.
  if systemd-analyze verify --root="$root" --man=no basic.target >/dev/null 2>&1; then
    systemd-analyze verify --root="$root" --man=no sluiced.service || fail "the unit does not verify"
    systemd-analyze security --offline=true --threshold=20 --root="$root" sluiced.service >"$work/security" 2>&1 ||
      fail "the unit is exposed more than 2.0: $(tail -n 1 "$work/security")"
  fi
fi

# --- a project outside, both ways ---
outside=$work/outside
mkdir -p "$outside"
for header in "$source_dir"/sdk/include/sluice/*.h; do echo "#include <sluice/$(basename "$header")>"; done >"$work/includes"
sed -e "/@INCLUDES@/{r $work/includes" -e 'd}' "$here/outside.cc.in" >"$outside/outside.cc"
for header in "${ledger_headers[@]}"; do echo "#include <sluice/ledger/$header>"; done >"$work/ledger_includes"
sed -e "/@INCLUDES@/{r $work/ledger_includes" -e 'd}' "$here/outside_ledger.cc.in" >"$outside/outside_ledger.cc"
sed -e "s/@VERSION@/$version/" -e "s/@PARTS@/${parts[*]}/" -e "s/@TARGETS@/${parts[*]/#/Sluice::}/" \
  "$here/outside.cmake.in" >"$outside/CMakeLists.txt"

if cmake -S "$outside" -B "$outside/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_FLAGS="$flags" >"$work/configure.log" 2>&1 &&
  cmake --build "$outside/build" >"$work/build.log" 2>&1; then
  "$outside/build/outside" || fail "the program built with find_package fails"
  "$outside/build/outside_ledger" || fail "the program built with the ledger fails"
  # Who asks for the bus alone gets no database with it.
  if readelf -d "$outside/build/outside" "$prefix/$lib/libsluice.so" | grep -E 'libpq|sqlite'; then
    fail "a program without the ledger needs the libraries above"
  fi
else
  cat "$work"/configure.log "$work"/build.log 2>/dev/null
  fail "a project with find_package(Sluice) does not build"
fi

export PKG_CONFIG_PATH=$prefix/$lib/pkgconfig
read -ra link < <(pkg-config --cflags --libs sluice)
if ${CXX:-c++} -std=c++20 $flags "$outside/outside.cc" "${link[@]}" -o "$outside/with-pkg-config"; then
  LD_LIBRARY_PATH=$prefix/$lib "$outside/with-pkg-config" || fail "the program built with pkg-config fails"
else
  fail "a project with pkg-config does not build"
fi
[ "$(pkg-config --modversion sluice)" = "$version" ] || fail "pkg-config names another version"

[ "$failed" -eq 0 ] && echo "installed: $(cd "$prefix" && find . -type f | wc -l) files; both outside builds run"
exit "$failed"
