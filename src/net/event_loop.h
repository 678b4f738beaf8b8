// What the connections of a server share. Internal to net/: this header includes Boost.
#pragma once

#include <utility>  // missing in Boost 1.74's own headers under C++20

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>

namespace ultraspeed::net {

using Clock = std::chrono::steady_clock;

// Writers keep it alive, so that they may outlive the server.
struct EventLoop {
  boost::asio::io_context io{1};
  size_t unread_bytes = 0;  // of all bodies and messages that are still arriving
};

}  // namespace ultraspeed::net
