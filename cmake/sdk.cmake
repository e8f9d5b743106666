# libmuster (src/sdk with what it uses of base and proto, strict C11), its OpenSSL transport, and muster-agent on top.
#
#   msdk, magent      static libraries of this build: programs and tests link them
#   libmuster.a .so   what is installed: the same sources, only muster_* visible
set(strict_c11 -std=c11 -pedantic)

file(GLOB sdk_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/sdk/*.c)
set(sdk_transport ${CMAKE_SOURCE_DIR}/src/sdk/transport_openssl.c)
list(REMOVE_ITEM sdk_sources ${sdk_transport})

add_library(msdk STATIC ${sdk_sources})
target_include_directories(msdk PUBLIC ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
target_compile_options(msdk PRIVATE ${strict_c11})
target_link_libraries(msdk PUBLIC mproto mbase)

add_library(msdk_openssl STATIC ${sdk_transport})
target_compile_options(msdk_openssl PRIVATE ${strict_c11})
target_include_directories(msdk_openssl PUBLIC ${CMAKE_SOURCE_DIR}/include)

# ---- What is installed ----------------------------------------------------------------------------------------------
set(sdk_base buf reader json json_double json_write utf8)
list(TRANSFORM sdk_base PREPEND ${CMAKE_SOURCE_DIR}/src/base/)
list(TRANSFORM sdk_base APPEND .c)
file(GLOB sdk_proto CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/proto/mqtt*.c)

add_library(muster_objects OBJECT ${sdk_sources} ${sdk_base} ${sdk_proto})
target_include_directories(muster_objects PRIVATE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
target_compile_options(muster_objects PRIVATE ${strict_c11})

# One object whose only global names are muster_*, so that an application may have its own buf_put or json_next.
set(muster_one ${CMAKE_BINARY_DIR}/muster.o)
add_custom_command(OUTPUT ${muster_one}
  COMMAND ${CMAKE_LINKER} -r -o ${muster_one} $<TARGET_OBJECTS:muster_objects>
  COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=muster_* ${muster_one}
  DEPENDS muster_objects $<TARGET_OBJECTS:muster_objects> COMMAND_EXPAND_LISTS VERBATIM)
set_source_files_properties(${muster_one} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)

add_library(muster_static STATIC ${muster_one} ${sdk_transport})
add_library(muster_shared SHARED ${muster_one} ${sdk_transport})
foreach(lib muster_static muster_shared)
  set_target_properties(${lib} PROPERTIES OUTPUT_NAME muster LINKER_LANGUAGE C
    ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
  target_compile_options(${lib} PRIVATE ${strict_c11})
  target_include_directories(${lib} PUBLIC ${CMAKE_SOURCE_DIR}/include)
  target_link_libraries(${lib} PUBLIC PkgConfig::OPENSSL m)
endforeach()
set_target_properties(muster_shared PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 0)

# The example links what a user would link.
add_executable(muster-device-example ${CMAKE_SOURCE_DIR}/examples/device.c)
target_compile_options(muster-device-example PRIVATE ${strict_c11})
target_link_libraries(muster-device-example PRIVATE muster_static)

# ---- The agent ------------------------------------------------------------------------------------------------------
file(GLOB agent_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/agent/*.c)
list(REMOVE_ITEM agent_sources ${CMAKE_SOURCE_DIR}/src/agent/main.c)
if(agent_sources)
  add_library(magent STATIC ${agent_sources})
  target_include_directories(magent PUBLIC ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
  target_link_libraries(magent PUBLIC msdk_openssl msdk mproto mbase PkgConfig::OPENSSL)
  list(APPEND MUSTER_LIBS magent)
endif()
if(EXISTS ${CMAKE_SOURCE_DIR}/src/agent/main.c)
  add_executable(muster-agent ${CMAKE_SOURCE_DIR}/src/agent/main.c)
  target_link_libraries(muster-agent PRIVATE magent PkgConfig::OPENSSL)
endif()
list(APPEND MUSTER_LIBS msdk_openssl msdk)
