# find_package(ram) for other CMake projects: targets ram::base, ram::quant, ram::allocate, ...
include(CMakePackageConfigHelpers)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/ram DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h" PATTERN "cli" EXCLUDE)
install(EXPORT ramTargets NAMESPACE ram:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ram)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/ramConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/ramConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ram)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/ramConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/ramConfig.cmake ${PROJECT_BINARY_DIR}/ramConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ram)
