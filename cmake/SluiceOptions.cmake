# Choices of a build, and the compiler settings every target shares.
option(SLUICE_TESTS "Build the tests" ON)
option(SLUICE_BENCHMARKS "Build perf/" ON)
option(SLUICE_FAILPOINTS "Compile failpoints in (tests only; never in release or benchmark builds)" OFF)
option(SLUICE_WERROR "Warnings are errors" OFF)
set(SLUICE_SANITIZER "" CACHE STRING "address (with undefined) or thread, or empty")
set_property(CACHE SLUICE_SANITIZER PROPERTY STRINGS "" address thread)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(SLUICE_CCACHE ccache)
if(SLUICE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${SLUICE_CCACHE})
endif()

# What every target of ours is compiled with. Linked PRIVATE, so that nothing of it reaches a user of the library.
add_library(sluice_build_flags INTERFACE)
target_compile_options(sluice_build_flags INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-align
  -Woverloaded-virtual -Wconversion -Wno-sign-conversion)
if(SLUICE_WERROR)
  target_compile_options(sluice_build_flags INTERFACE -Werror)
endif()
# CRC-32C is an instruction from x86-64-v2 on; the baseline is older, so the level is named.
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  target_compile_options(sluice_build_flags INTERFACE -march=x86-64-v2 -mcx16)
endif()
if(SLUICE_SANITIZER STREQUAL "address")
  # Left out: what AddressSanitizer finds as well (null), and what costs the compiler more time than it finds faults. For
  # the same reason the preset compiles with -O0.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize=null,vptr,object-size,pointer-overflow,return,unreachable
    -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(SLUICE_SANITIZER STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
endif()
if(SLUICE_FAILPOINTS)
  add_compile_definitions(SLUICE_FAILPOINTS=1)
endif()
