# Warnings are errors; hardening is on in every optimised build.
add_compile_options(-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
                    -Wformat=2 -Wimplicit-fallthrough -fno-common -fstack-protector-strong -fstack-clash-protection
                    -fcf-protection=full -ftrivial-auto-var-init=zero -fno-strict-aliasing)
if(CMAKE_C_COMPILER_ID STREQUAL "Clang" AND CMAKE_C_COMPILER_VERSION VERSION_LESS 16)
  add_compile_options(-enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang)
endif()
add_compile_definitions(_GNU_SOURCE)
# ibt and shstk are forced: the start files of the distribution are not marked, though our code is built for both.
add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack,-z,ibt,-z,shstk -Wl,--as-needed -pie)
if(CMAKE_BUILD_TYPE STREQUAL "Release" OR CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  add_compile_options(-D_FORTIFY_SOURCE=2 -ffunction-sections -fdata-sections)
  add_link_options(-Wl,--gc-sections)
endif()
if(MUSTER_SANITIZE)
  add_compile_options(-fsanitize=${MUSTER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=${MUSTER_SANITIZE})
endif()
