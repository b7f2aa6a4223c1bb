# What `cmake --install` puts where. Included after the subdirectories, so that every target exists that will.
# sluice-perf is there where benchmarks are on.
#
#   include/sluice/*.h            public headers; shm/base/{result,transaction_id,types}.h below them, where a quoted
#                                 "shm/base/result.h" of a public header finds them
#   lib/libsluice.so.N            with SOVERSION; lib/cmake/Sluice, lib/pkgconfig/sluice.pc
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

sluice_install_library()
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
