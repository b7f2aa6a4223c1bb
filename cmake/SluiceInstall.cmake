# What `cmake --install` puts where. Included after the subdirectories, so that every target exists that will.
# sluice-perf is there where benchmarks are on.
#
#   include/sluice/*.h            public headers; shm/base/{result,transaction_id,types}.h below them, where a quoted
#                                 "shm/base/result.h" of a public header finds them
#   include/sluice/ledger/*.h     of the ledger; sqlite.h and postgres.h where they are built
#   lib/libsluice.so.N            with SOVERSION; lib/cmake/Sluice, lib/pkgconfig/sluice.pc
#   lib/libsluice-ledger*.so.N    the ledger, and one library per database; lib/cmake/Sluice/Sluice-ledger*.cmake
#   bin/                          sluiced, sluice, sluice-perf
#   lib/systemd/system etc.       systemd/CMakeLists.txt
#   share/man, share/bash-completion
include(CMakePackageConfigHelpers)

# Raised with every change that breaks a program linked against the library.
set(SLUICE_SOVERSION 0)

function(sluice_install_library)
  set_target_properties(sluice PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${SLUICE_SOVERSION})
  target_include_directories(sluice INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(sluice INTERFACE cxx_std_20)
  install(TARGETS sluice EXPORT SluiceTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})

  install(DIRECTORY ${PROJECT_SOURCE_DIR}/sdk/include/sluice DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILES_MATCHING PATTERN "*.h")
  install(FILES ${PROJECT_SOURCE_DIR}/shm/base/result.h ${PROJECT_SOURCE_DIR}/shm/base/transaction_id.h
      ${PROJECT_SOURCE_DIR}/shm/base/types.h
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/sluice/shm/base)

  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Sluice)
  install(EXPORT SluiceTargets NAMESPACE Sluice:: DESTINATION ${package_dir})
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/SluiceConfig.cmake.in
    ${PROJECT_BINARY_DIR}/SluiceConfig.cmake INSTALL_DESTINATION ${package_dir})
  # 0.x promises nothing across minor versions.
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/SluiceConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/SluiceConfig.cmake ${PROJECT_BINARY_DIR}/SluiceConfigVersion.cmake
    DESTINATION ${package_dir})

  # From the place of sluice.pc, so that the installed tree can be moved.
  file(RELATIVE_PATH SLUICE_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  string(REGEX REPLACE "/$" "" SLUICE_PC_TO_PREFIX ${SLUICE_PC_TO_PREFIX})
  configure_file(${PROJECT_SOURCE_DIR}/cmake/sluice.pc.in ${PROJECT_BINARY_DIR}/sluice.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/sluice.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()

# The parts of the ledger that were built, each in an export of its own: find_package(Sluice COMPONENTS part ...).
function(sluice_install_ledger)
  set(headers ${PROJECT_SOURCE_DIR}/sdk/ledger/include/sluice/ledger)
  foreach(part IN ITEMS ledger ledger_sqlite ledger_postgres)
    if(NOT TARGET sluice_${part})
      continue()
    endif()
    set_target_properties(sluice_${part} PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${SLUICE_SOVERSION})
    target_include_directories(sluice_${part} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    install(TARGETS sluice_${part} EXPORT Sluice-${part} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
    install(EXPORT Sluice-${part} NAMESPACE Sluice:: FILE Sluice-${part}.cmake
      DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Sluice)
    string(REGEX REPLACE "^ledger_?" "" database ${part})
    if(database)
      install(FILES ${headers}/${database}.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/sluice/ledger)
    endif()
  endforeach()
  install(FILES ${headers}/bus.h ${headers}/connection.h ${headers}/key.h ${headers}/ledger.h
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/sluice/ledger)
endfunction()

sluice_install_library()
sluice_install_ledger()
foreach(program IN ITEMS sluiced sluice_cli sluice_perf)
  if(TARGET ${program})
    set_target_properties(${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)  # run.sh, and people
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()

foreach(section IN ITEMS 1 5 8)
  file(GLOB pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.${section})
  install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/sdk/cli/completion/sluice.bash
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME sluice)
