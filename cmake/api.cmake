# What follows from api/*.json: the operation table, OpenAPI, command-line verbs, the reference. Included by generate.cmake.
file(GLOB api_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/api/*.json)
file(GLOB api_tools CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/gen_api.py ${CMAKE_SOURCE_DIR}/tools/apigen/*.py)
set(api_deps ${api_tools} ${CMAKE_SOURCE_DIR}/src/core/principal.h ${CMAKE_SOURCE_DIR}/src/base/status.h)
set(api_generator ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/gen_api.py --src ${CMAKE_SOURCE_DIR}/src)

set(MUSTER_API_SOURCES ${gen}/front/http/api_ops.c ${gen}/front/http/api_handlers.c ${gen}/front/http/api_openapi.c)
set(MUSTER_CLI_SOURCES ${gen}/cli/api_verbs.c)
add_custom_command(
  OUTPUT ${gen}/api.stamp
  BYPRODUCTS ${MUSTER_API_SOURCES} ${MUSTER_CLI_SOURCES} ${gen}/front/http/api_ops.h ${gen}/openapi.json ${gen}/api.md
  COMMAND ${api_generator} --out ${gen} --stamp ${gen}/api.stamp ${api_files}
  DEPENDS ${api_files} ${api_deps} VERBATIM)
list(APPEND generated_files ${gen}/api.stamp ${MUSTER_API_SOURCES} ${MUSTER_CLI_SOURCES})

# The table of the unit tests: operations with every feature, described beside them.
file(GLOB testapi_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/front/http/api/*.json)
add_custom_command(
  OUTPUT ${gen}/testapi.stamp
  BYPRODUCTS ${gen}/front/http/testapi_ops.c ${gen}/front/http/testapi_ops.h
  COMMAND ${api_generator} --prefix testapi --out ${gen} --stamp ${gen}/testapi.stamp ${testapi_files}
  DEPENDS ${testapi_files} ${api_deps} VERBATIM)
list(APPEND generated_files ${gen}/testapi.stamp)

# docs/api.md is checked in; `ninja api_docs` writes it anew, a test compares.
add_custom_target(api_docs COMMAND ${api_generator} --write-docs ${CMAKE_SOURCE_DIR}/docs/api.md ${api_files} VERBATIM)
add_test(NAME docs_api COMMAND ${api_generator} --check-docs ${CMAKE_SOURCE_DIR}/docs/api.md ${api_files})
add_test(NAME tools_apigen COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/unit/tools/apigen.py)
