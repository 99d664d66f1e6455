# polyscore::polyscore (the shared library) and polyscore::headers (for hosts that load it by polyscore_dl.h).
get_filename_component(_polyscore_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET polyscore::headers)
    add_library(polyscore::headers INTERFACE IMPORTED)
    set_target_properties(polyscore::headers PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_polyscore_prefix}/include")
    add_library(polyscore::polyscore SHARED IMPORTED)
    set_target_properties(polyscore::polyscore PROPERTIES
        IMPORTED_LOCATION "${_polyscore_prefix}/lib/libpolyscore.so.0"
        IMPORTED_SONAME "libpolyscore.so.0"
        INTERFACE_INCLUDE_DIRECTORIES "${_polyscore_prefix}/include")
endif()
unset(_polyscore_prefix)
