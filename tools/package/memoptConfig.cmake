# memopt::memopt - the header and what its implementation links with.
if(NOT TARGET memopt::memopt)
  find_package(Threads REQUIRED)
  get_filename_component(memopt_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
  add_library(memopt::memopt INTERFACE IMPORTED)
  set_target_properties(memopt::memopt PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${memopt_prefix}/include"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};$<$<NOT:$<PLATFORM_ID:Windows>>:m>")
endif()
