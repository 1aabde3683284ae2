# Every library Updraft stands on, found in the distribution's packages (README, "Dependencies").
find_package(PkgConfig REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(UV REQUIRED IMPORTED_TARGET libuv>=1.44)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3>=3.35)
pkg_check_modules(INIH REQUIRED IMPORTED_TARGET inih)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp>=2.5)

# llhttp: a library of its own on Debian 13 and Alpine (9.x); on Debian 12 node-llhttp brings its sources (8.1),
# which are compiled here. LLHTTP_STRICT_MODE=1 must reach users too: 8.1's loose parser accepts smuggling shapes;
# 9.x has no such switch and ignores it.
find_path(LLHTTP_INCLUDE_DIR llhttp.h PATHS /usr/include /usr/share/include/llhttp)
find_library(LLHTTP_LIBRARY llhttp)
find_path(LLHTTP_SOURCE_DIR llhttp.c PATHS /usr/share/llhttp NO_DEFAULT_PATH)
if(NOT LLHTTP_INCLUDE_DIR)
  message(FATAL_ERROR "llhttp.h not found: run script/bootstrap (Debian 12: node-llhttp; Debian 13: libllhttp-dev)")
elseif(LLHTTP_LIBRARY)
  add_library(updraft_llhttp INTERFACE)
  target_link_libraries(updraft_llhttp INTERFACE ${LLHTTP_LIBRARY})
  target_include_directories(updraft_llhttp SYSTEM INTERFACE ${LLHTTP_INCLUDE_DIR})
elseif(LLHTTP_SOURCE_DIR)
  add_library(updraft_llhttp STATIC
    ${LLHTTP_SOURCE_DIR}/llhttp.c ${LLHTTP_SOURCE_DIR}/api.c ${LLHTTP_SOURCE_DIR}/http.c)
  target_include_directories(updraft_llhttp SYSTEM PUBLIC ${LLHTTP_INCLUDE_DIR})
  target_compile_definitions(updraft_llhttp PUBLIC LLHTTP_STRICT_MODE=1)
  target_compile_options(updraft_llhttp PRIVATE -w)
else()
  message(FATAL_ERROR "llhttp: neither a library nor its sources found: run script/bootstrap")
endif()

pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
# Paho's synchronous client with TLS. Its CMake package names itself 1.3.11 in 1.3.12, so no version is asked for.
find_package(eclipse-paho-mqtt-c REQUIRED)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3>=3.35)
