# Compiles for 64-bit ARM on Debian and runs the programs under qemu (CONTRIBUTING.md).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static)
set(CMAKE_CXX_FLAGS_INIT -Wno-psabi)  # All of it is compiled by one compiler.
# Libraries lie in Debian's folder of their architecture, where the loader looks by itself.
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig)
set(CMAKE_SKIP_RPATH ON)
