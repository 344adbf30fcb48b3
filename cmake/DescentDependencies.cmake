# Finds what libdescent links to and gives each an imported target, descent::blas, descent::cjson, descent::csv and so
# on, all of them in DESCENT_LIBRARIES. Used by the build and by the installed package, so that the static library is
# completed the same way it was built. DESCENT_BLAS names the CBLAS: OpenBLAS, or any vendor that CMake's FindBLAS knows.
# DESCENT_FORMATS OFF leaves out what only readers, writers and exporters need. DESCENT_HDF5 is AUTO, ON or OFF;
# DESCENT_HDF5_BUILT says what became of it. What is missing is left in DESCENT_MISSING,
# one "thing (Debian package)" each.
set(DESCENT_MISSING "")
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads QUIET)
if(NOT Threads_FOUND)
  list(APPEND DESCENT_MISSING "threads (libc6-dev)")
endif()

# Imported target descent::<name> from a header and libraries already looked for; package: who provides them on Debian.
function(descent_import name package include_dir)
  if(NOT include_dir OR NOT ARGN OR "${ARGN}" MATCHES "NOTFOUND")
    set(DESCENT_MISSING ${DESCENT_MISSING} "${name} (${package})" PARENT_SCOPE)
  elseif(NOT TARGET descent::${name})
    add_library(descent::${name} INTERFACE IMPORTED)
    set_target_properties(descent::${name} PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES ${include_dir} INTERFACE_LINK_LIBRARIES "${ARGN}")
  endif()
endfunction()

find_path(DESCENT_CJSON_INCLUDE_DIR cjson/cJSON.h)
find_library(DESCENT_CJSON_LIBRARY cjson)
descent_import(cjson libcjson-dev "${DESCENT_CJSON_INCLUDE_DIR}" ${DESCENT_CJSON_LIBRARY})

find_path(DESCENT_CSV_INCLUDE_DIR csv.h)
find_library(DESCENT_CSV_LIBRARY csv)
descent_import(csv libcsv-dev "${DESCENT_CSV_INCLUDE_DIR}" ${DESCENT_CSV_LIBRARY})

set(DESCENT_LIBRARIES descent::blas descent::cjson descent::csv)
if(DESCENT_FORMATS)
  find_path(DESCENT_PROTOBUF_C_INCLUDE_DIR protobuf-c/protobuf-c.h)
  find_library(DESCENT_PROTOBUF_C_LIBRARY protobuf-c)
  descent_import(protobuf-c libprotobuf-c-dev "${DESCENT_PROTOBUF_C_INCLUDE_DIR}" ${DESCENT_PROTOBUF_C_LIBRARY})

  find_path(DESCENT_ZIP_INCLUDE_DIR zip.h)
  find_library(DESCENT_ZIP_LIBRARY zip)
  descent_import(zip libzip-dev "${DESCENT_ZIP_INCLUDE_DIR}" ${DESCENT_ZIP_LIBRARY})

  find_path(DESCENT_ZLIB_INCLUDE_DIR zlib.h)
  find_library(DESCENT_ZLIB_LIBRARY z)
  descent_import(zlib zlib1g-dev "${DESCENT_ZLIB_INCLUDE_DIR}" ${DESCENT_ZLIB_LIBRARY})

  list(APPEND DESCENT_LIBRARIES descent::protobuf-c descent::zip descent::zlib)
endif()

# HDF5, where it is there or asked for; Debian has it in folders of its own.
set(DESCENT_HDF5_BUILT OFF)
if(DESCENT_FORMATS AND NOT DESCENT_HDF5 STREQUAL "OFF")
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_search_module(DESCENT_HDF5_HINT QUIET hdf5-serial hdf5)
  endif()
  find_path(DESCENT_HDF5_INCLUDE_DIR hdf5.h HINTS ${DESCENT_HDF5_HINT_INCLUDE_DIRS} PATH_SUFFIXES hdf5/serial)
  find_library(DESCENT_HDF5_LIBRARY NAMES hdf5 hdf5_serial HINTS ${DESCENT_HDF5_HINT_LIBRARY_DIRS})
  if(DESCENT_HDF5 STREQUAL "ON" OR (DESCENT_HDF5_INCLUDE_DIR AND DESCENT_HDF5_LIBRARY))
    descent_import(hdf5 libhdf5-dev "${DESCENT_HDF5_INCLUDE_DIR}" ${DESCENT_HDF5_LIBRARY})
    list(APPEND DESCENT_LIBRARIES descent::hdf5)
    set(DESCENT_HDF5_BUILT ON)
  endif()
  mark_as_advanced(DESCENT_HDF5_INCLUDE_DIR DESCENT_HDF5_LIBRARY)
endif()

if(DESCENT_BLAS STREQUAL "OpenBLAS")
  # pkg-config, where there is one, knows of folders that are searched by nobody else; it is a hint, no requirement.
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(DESCENT_OPENBLAS QUIET openblas)
  endif()
  find_path(DESCENT_BLAS_INCLUDE_DIR cblas.h HINTS ${DESCENT_OPENBLAS_INCLUDE_DIRS} PATH_SUFFIXES openblas)
  find_library(DESCENT_BLAS_LIBRARY openblas HINTS ${DESCENT_OPENBLAS_LIBRARY_DIRS})
  set(DESCENT_BLAS_LIBRARIES ${DESCENT_BLAS_LIBRARY})
  set(DESCENT_BLAS_PACKAGE libopenblas-dev)
else()
  set(BLA_VENDOR ${DESCENT_BLAS})
  find_package(BLAS QUIET)
  find_path(DESCENT_BLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES blis blis-pthread blis-openmp blis-serial mkl)
  set(DESCENT_BLAS_LIBRARIES ${BLAS_LIBRARIES})
  if(BLAS_FOUND)
    # The C interface is part of most vendors' library and beside it for a few.
    include(CheckFunctionExists)
    set(CMAKE_REQUIRED_LIBRARIES ${BLAS_LIBRARIES})
    set(CMAKE_REQUIRED_QUIET ON)
    check_function_exists(cblas_sgemm DESCENT_BLAS_HAS_CBLAS)
    unset(CMAKE_REQUIRED_LIBRARIES)
    unset(CMAKE_REQUIRED_QUIET)
    if(NOT DESCENT_BLAS_HAS_CBLAS)
      find_library(DESCENT_CBLAS_LIBRARY cblas)
      list(PREPEND DESCENT_BLAS_LIBRARIES ${DESCENT_CBLAS_LIBRARY})
    endif()
  endif()
  set(DESCENT_BLAS_PACKAGE "the one with ${DESCENT_BLAS}'s cblas.h")
endif()
descent_import(blas "${DESCENT_BLAS_PACKAGE}" "${DESCENT_BLAS_INCLUDE_DIR}" ${DESCENT_BLAS_LIBRARIES})
mark_as_advanced(DESCENT_CJSON_INCLUDE_DIR DESCENT_CJSON_LIBRARY DESCENT_CSV_INCLUDE_DIR DESCENT_CSV_LIBRARY
  DESCENT_PROTOBUF_C_INCLUDE_DIR DESCENT_PROTOBUF_C_LIBRARY DESCENT_ZIP_INCLUDE_DIR DESCENT_ZIP_LIBRARY
  DESCENT_ZLIB_INCLUDE_DIR DESCENT_ZLIB_LIBRARY DESCENT_BLAS_INCLUDE_DIR DESCENT_BLAS_LIBRARY DESCENT_CBLAS_LIBRARY)
