# Unpacks the weights of the bundled model, models/tiny-mimo-weights.tar.xz, into its folder: at
# configure time, or alone with "cmake -P cmake/bundled_model.cmake" where nothing is built.
# Packed they are a seventh smaller, and the tree has to travel.
function(unpack_bundled_model)
  cmake_path(SET folder NORMALIZE ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../models/tiny-mimo)
  set(archive ${folder}-weights.tar.xz)
  if(NOT CMAKE_SCRIPT_MODE_FILE)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${archive})
  endif()
  foreach(number RANGE 1 4)
    list(APPEND shards model-0000${number}-of-00004.safetensors)
  endforeach()
  list(GET shards -1 last)  # moved into place behind the others
  if(NOT ${archive} IS_NEWER_THAN ${folder}/${last})
    return()
  endif()
  message(STATUS "Unpacking the bundled model's weights")
  set(scratch ${folder}/unpacking)
  file(REMOVE_RECURSE ${scratch})
  file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${scratch} TOUCH)
  foreach(shard ${shards})
    file(RENAME ${scratch}/${shard} ${folder}/${shard})
  endforeach()
  file(REMOVE_RECURSE ${scratch})
endfunction()

unpack_bundled_model()
