// Objects that belong to the event loop, in hands that do not.
#pragma once

#include <functional>
#include <memory>
#include <utility>

namespace ultraspeed::server {

using Post = std::function<void(std::function<void()>)>;

// A handle whose last copy, wherever it goes, hands the object to the post function to be let go.
template <class T>
std::shared_ptr<T> released_by(Post post, std::shared_ptr<T> object) {
  T* const pointer = object.get();
  return {pointer, [post = std::move(post), object = std::move(object)](T*) mutable {
            post([object = std::move(object)] {});
          }};
}

}  // namespace ultraspeed::server
