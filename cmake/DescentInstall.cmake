# `cmake --install`: header, both libraries, the command, the CMake package and the pkg-config file.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(DIRECTORY include/descent DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS descent_shared EXPORT descentSharedTargets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS descent_static EXPORT descentStaticTargets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET descent)
  install(TARGETS descent)
endif()

set(DESCENT_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/descent)
install(EXPORT descentSharedTargets NAMESPACE descent:: DESTINATION ${DESCENT_PACKAGE_DIR})
install(EXPORT descentStaticTargets NAMESPACE descent:: DESTINATION ${DESCENT_PACKAGE_DIR})
configure_package_config_file(cmake/descentConfig.cmake.in ${CMAKE_BINARY_DIR}/cmake/descentConfig.cmake
  INSTALL_DESTINATION ${DESCENT_PACKAGE_DIR})
configure_file(cmake/descentConfigVersion.cmake.in ${CMAKE_BINARY_DIR}/cmake/descentConfigVersion.cmake @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/cmake/descentConfig.cmake ${CMAKE_BINARY_DIR}/cmake/descentConfigVersion.cmake
  cmake/DescentDependencies.cmake DESTINATION ${DESCENT_PACKAGE_DIR})

# What a static link adds, as -L and -l flags: folders that the linker searches anyway are left out.
set(DESCENT_PC_LIBS_PRIVATE "")
set(DESCENT_PC_FORMATS "")
if(DESCENT_FORMATS)
  set(DESCENT_PC_FORMATS ${DESCENT_PROTOBUF_C_LIBRARY} ${DESCENT_ZIP_LIBRARY} ${DESCENT_ZLIB_LIBRARY})
endif()
set(DESCENT_PC_HDF5 "")
if(DESCENT_HDF5_BUILT)
  set(DESCENT_PC_HDF5 ${DESCENT_HDF5_LIBRARY})
endif()
foreach(library ${DESCENT_PC_HDF5} ${DESCENT_BLAS_LIBRARIES} ${DESCENT_CJSON_LIBRARY} ${DESCENT_CSV_LIBRARY}
    ${DESCENT_PC_FORMATS})
  if(NOT IS_ABSOLUTE ${library})
    string(APPEND DESCENT_PC_LIBS_PRIVATE "${library} ") # already a flag
    continue()
  endif()
  get_filename_component(directory ${library} DIRECTORY)
  if(NOT directory IN_LIST CMAKE_C_IMPLICIT_LINK_DIRECTORIES)
    string(APPEND DESCENT_PC_LIBS_PRIVATE "-L${directory} ")
  endif()
  get_filename_component(name ${library} NAME_WE)
  string(REGEX REPLACE "^lib" "-l" name ${name})
  string(APPEND DESCENT_PC_LIBS_PRIVATE "${name} ")
endforeach()
string(APPEND DESCENT_PC_LIBS_PRIVATE "-lpthread -ldl -lm")
# Everything relative to the .pc file, so that the installed tree may be moved.
set(pc_dir ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH DESCENT_PC_INCLUDEDIR ${pc_dir} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(cmake/descent.pc.in ${CMAKE_BINARY_DIR}/cmake/descent.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/cmake/descent.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(DESCENT_CUDA_BUILT)
  install(TARGETS descent_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}) # beside the library, where it is looked for
endif()
if(DESCENT_MPI_BUILT)
  install(TARGETS descent_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
