# Generated sources: SQL tables from .sql files, operation tables from api/*.json.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(gen ${CMAKE_BINARY_DIR}/generated)
file(MAKE_DIRECTORY ${gen})
set(generated_files)

# src/<path>/sql/<name>.sql -> generated/<path>/sql/<name>.sql.h
file(GLOB_RECURSE sql_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*.sql)
list(FILTER sql_files EXCLUDE REGEX "/migrations/")
foreach(f IN LISTS sql_files)
  file(RELATIVE_PATH rel ${CMAKE_SOURCE_DIR}/src ${f})
  add_custom_command(OUTPUT ${gen}/${rel}.h
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/gen_sql.py ${f} ${gen}/${rel}.h
    DEPENDS ${f} ${CMAKE_SOURCE_DIR}/tools/gen_sql.py VERBATIM)
  list(APPEND generated_files ${gen}/${rel}.h)
endforeach()
file(GLOB migrations CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/store/migrations/*.sql)
add_custom_command(OUTPUT ${gen}/store/migrations.h
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/gen_sql.py --migrations ${gen}/store/migrations.h ${migrations}
  DEPENDS ${migrations} ${CMAKE_SOURCE_DIR}/tools/gen_sql.py VERBATIM)
list(APPEND generated_files ${gen}/store/migrations.h)

if(EXISTS ${CMAKE_SOURCE_DIR}/cmake/api.cmake)
  include(${CMAKE_SOURCE_DIR}/cmake/api.cmake)
endif()
add_custom_target(muster_generated DEPENDS ${generated_files})
