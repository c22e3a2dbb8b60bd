# Seconds after which a test has failed. Sanitizers slow some down ten times.
set(RAM_TEST_TIMEOUT 600)
if(RAM_SANITIZE)
  set(RAM_TEST_TIMEOUT 6000)
endif()

# ram_module(NAME PUBLIC ... PRIVATE ...): the library ram_NAME from every .cc of ram/NAME, and the
# test program NAME_test from every *_test.cc there (found by glob, so that none is forgotten).
# TEST_SHARDS N: its cases are divided among the tests NAME_1 ... NAME_N, which may run at once.
function(ram_module name)
  cmake_parse_arguments(arg "" "TEST_SHARDS" "PUBLIC;PRIVATE" ${ARGN})
  set(directory ${PROJECT_SOURCE_DIR}/ram/${name})
  file(GLOB sources CONFIGURE_DEPENDS ${directory}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")

  if(sources)
    add_library(ram_${name} ${sources})
    target_link_libraries(ram_${name} PUBLIC ram_options ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
    target_compile_definitions(ram_${name} PRIVATE ${RAM_HWY_DEFINITIONS})
  else()
    add_library(ram_${name} INTERFACE)
    target_link_libraries(ram_${name} INTERFACE ram_options ${arg_PUBLIC} ${arg_PRIVATE})
  endif()
  set_target_properties(ram_${name} PROPERTIES EXPORT_NAME ${name})
  add_library(ram::${name} ALIAS ram_${name})
  install(TARGETS ram_${name} EXPORT ramTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

  if(RAM_DEVELOPER AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE ram_${name} ${arg_PRIVATE} GTest::gtest_main)
    target_compile_definitions(
      ${name}_test PRIVATE ${RAM_HWY_DEFINITIONS}
                           RAM_TEST_DATA_DIR="${PROJECT_SOURCE_DIR}/tests/data"
                           RAM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    if(NOT arg_TEST_SHARDS)
      add_test(NAME ${name} COMMAND ${name}_test --gtest_brief=1)
      set_tests_properties(${name} PROPERTIES LABELS fast TIMEOUT ${RAM_TEST_TIMEOUT})
      return()
    endif()
    foreach(shard RANGE 1 ${arg_TEST_SHARDS})
      math(EXPR index "${shard} - 1")
      add_test(NAME ${name}_${shard} COMMAND ${name}_test --gtest_brief=1)
      set_tests_properties(
        ${name}_${shard}
        PROPERTIES LABELS fast TIMEOUT ${RAM_TEST_TIMEOUT}
                   ENVIRONMENT "GTEST_TOTAL_SHARDS=${arg_TEST_SHARDS};GTEST_SHARD_INDEX=${index}")
    endforeach()
  endif()
endfunction()

# Every bench/*_bench.cc becomes a program of that name.
function(ram_benchmarks directory)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${directory}/*_bench.cc)
  foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} EXCLUDE_FROM_ALL ${source})
    target_link_libraries(${name} PRIVATE ram_measure ram_writer ram_plan ram_runtime ram_stats ram_text
                                          benchmark::benchmark fmt::fmt)
    target_compile_definitions(${name} PRIVATE RAM_TEST_DATA_DIR="${PROJECT_SOURCE_DIR}/tests/data")
  endforeach()
endfunction()

# Every fuzz/*_fuzz.cc: with RAM_LIBFUZZER a fuzzer; always a program that replays
# fuzz/corpus/<name>/ as a test, so that fuzzers do not rot.
function(ram_fuzzers directory)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${directory}/*_fuzz.cc)
  foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE ram_eval ram_family ram_plan ram_text ram_writer fmt::fmt)
    if(RAM_LIBFUZZER)
      target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
      target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    else()
      target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/${directory}/replay_main.cc)
      add_test(NAME ${name} COMMAND ${name} ${PROJECT_SOURCE_DIR}/${directory}/corpus/${name})
      set_tests_properties(${name} PROPERTIES LABELS fast)
    endif()
  endforeach()
endfunction()
