# find_package(ram) for other CMake projects: targets ram::base, ram::quant, ram::allocate, ...
include(CMakePackageConfigHelpers)

# Every header but those of the command and those that only tests include.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/ram DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h" PATTERN "cli" EXCLUDE PATTERN "testing.h" EXCLUDE
        PATTERN "fixtures.h" EXCLUDE PATTERN "test_weights.h" EXCLUDE)
install(EXPORT ramTargets NAMESPACE ram:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ram)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/ramConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/ramConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ram)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/ramConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/ramConfig.cmake ${PROJECT_BINARY_DIR}/ramConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/FindPCRE2.cmake ${PROJECT_SOURCE_DIR}/cmake/FindxxHash.cmake
              ${PROJECT_SOURCE_DIR}/cmake/Findutf8proc.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ram)
