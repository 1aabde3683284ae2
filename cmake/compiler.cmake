# Warnings, hardening and sanitizers. Assertions stay on in every build: a broken promise stops the program.
add_library(updraft_warnings INTERFACE)
target_compile_options(updraft_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
  -Wcast-qual -Wwrite-strings -Wvla -Wundef -Wformat=2
  $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation>) # snprintf cuts on purpose: what is shown is bounded
if(UPDRAFT_WERROR)
  target_compile_options(updraft_warnings INTERFACE -Werror)
endif()

add_compile_definitions(_GNU_SOURCE)
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELEASE "${CMAKE_C_FLAGS_RELEASE}")
add_compile_options(-fno-omit-frame-pointer -fstack-protector-strong)

if(UPDRAFT_SANITIZE)
  add_compile_options(-fsanitize=${UPDRAFT_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${UPDRAFT_SANITIZE})
  add_compile_definitions(UPDRAFT_SANITIZED)
elseif(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  add_compile_definitions(_FORTIFY_SOURCE=2)
endif()
if(UPDRAFT_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# In the field the server is optimised as a whole, for what its libraries ask of one another are short calls
# (docs/performance.md). Its objects can be linked both ways, so that the tests are not compiled once more each.
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT UPDRAFT_SANITIZE)
  include(CheckIPOSupported)
  check_ipo_supported(RESULT UPDRAFT_WHOLE_PROGRAM OUTPUT ignored LANGUAGES C)
endif()
function(updraft_part_of_whole target)
  if(UPDRAFT_WHOLE_PROGRAM)
    target_compile_options(${target} PRIVATE -flto=auto -ffat-lto-objects)
  endif()
endfunction()
