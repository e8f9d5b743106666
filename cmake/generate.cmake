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

# The expression language: its parser from grammar.y (lemon), its scanner from scan.re (re2c).
find_program(LEMON lemon REQUIRED)
find_program(RE2C re2c REQUIRED)
find_file(LEMPAR lempar.c PATHS /usr/share/lemon REQUIRED)
set(expr_in ${CMAKE_SOURCE_DIR}/src/expr)
file(MAKE_DIRECTORY ${gen}/expr)
add_custom_command(OUTPUT ${gen}/expr/grammar.c ${gen}/expr/grammar.h
  COMMAND ${LEMON} -q -T${LEMPAR} -d${gen}/expr ${expr_in}/grammar.y
  DEPENDS ${expr_in}/grammar.y ${LEMPAR} VERBATIM)
add_custom_command(OUTPUT ${gen}/expr/scan.c
  COMMAND ${RE2C} -W --no-debug-info -o ${gen}/expr/scan.c ${expr_in}/scan.re
  DEPENDS ${expr_in}/scan.re VERBATIM)
set(MUSTER_EXPR_SOURCES ${gen}/expr/grammar.c ${gen}/expr/scan.c)
list(APPEND generated_files ${MUSTER_EXPR_SOURCES} ${gen}/expr/grammar.h)
# lemon's frame declares no prototypes, and its rules fall through.
set_source_files_properties(${gen}/expr/grammar.c PROPERTIES COMPILE_OPTIONS "-Wno-missing-prototypes;-Wno-unused-parameter;-Wno-unused-variable;-Wno-implicit-fallthrough")

if(EXISTS ${CMAKE_SOURCE_DIR}/cmake/api.cmake)
  include(${CMAKE_SOURCE_DIR}/cmake/api.cmake)
endif()
add_custom_target(muster_generated DEPENDS ${generated_files})
