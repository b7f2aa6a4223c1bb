# How a folder becomes a target, and a test program a ctest entry. What is named must be there: a missing source or
# folder, an unknown label or a word that is no argument ends the configuration (tests/architecture/cmake_strict_test.py).

function(sluice_refuse_unparsed name words)
  if(words)
    message(FATAL_ERROR "${name}: not understood: ${words}")
  endif()
endfunction()

# sluice_module(NAME SOURCES a.cc ... USES other_module ... LIBRARIES third_party ...)
# One folder, one target. USES are the allowed edges of docs/ARCHITECTURE.md (checked by tests/architecture).
function(sluice_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  sluice_refuse_unparsed(${name} "${ARG_UNPARSED_ARGUMENTS}")
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/sdk/include)
    target_link_libraries(${name} PUBLIC ${ARG_USES} ${ARG_LIBRARIES} PRIVATE sluice_build_flags)
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/sdk/include)
    target_link_libraries(${name} INTERFACE ${ARG_USES} ${ARG_LIBRARIES})
  endif()
endfunction()

# The labels a test may carry. For each there is a target tests_LABEL that builds its programs and nothing else, so that
# a sanitizer build needs no full tree. `hostile`: bad bytes and bad clients. `serial`: needs the machine for itself.
# `long`: not in the default suite.
set(SLUICE_TEST_LABELS unit ring sim crash e2e fuzz conformance model hostile architecture serial long)

# sluice_test_labels(TEST TARGET LABEL...): labels a ctest entry, and has tests_LABEL build TARGET (may be empty) for it.
# What kills processes, measures CPU time or runs whole daemons does not share the machine with another test.
function(sluice_test_labels test target)
  foreach(label IN LISTS ARGN)
    if(NOT label IN_LIST SLUICE_TEST_LABELS)
      message(FATAL_ERROR "test ${test}: unknown label '${label}'; known are: ${SLUICE_TEST_LABELS}")
    endif()
    if(NOT TARGET tests_${label})
      add_custom_target(tests_${label})
    endif()
    if(target)
      add_dependencies(tests_${label} ${target})
    endif()
  endforeach()
  set_tests_properties(${test} PROPERTIES LABELS "${ARGN}")
  foreach(label IN ITEMS serial crash e2e model)
    if(label IN_LIST ARGN)
      set_tests_properties(${test} PROPERTIES RUN_SERIAL TRUE)
    endif()
  endforeach()
endfunction()

# sluice_test(NAME SOURCES a_test.cc ... USES module ... [LABELS label...] [TIMEOUT s] [ARGS argument...])
# One GoogleTest program, registered as one ctest entry.
function(sluice_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;USES;LABELS;ARGS" ${ARGN})
  sluice_refuse_unparsed(${name} "${ARG_UNPARSED_ARGUMENTS}")
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_USES} GTest::gtest GTest::gmock GTest::gtest_main sluice_build_flags)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  sluice_test_labels(${name} ${name} ${ARG_LABELS})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
endfunction()
