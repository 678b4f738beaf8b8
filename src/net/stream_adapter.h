// A Stream in the form in which Boost.Beast reads and writes one (its AsyncStream concept).
// Internal to net/: this header includes Boost.
#pragma once

#include <utility>  // missing in Boost 1.74's own headers under C++20

#include <algorithm>
#include <boost/asio/async_result.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core/role.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "net/stream.h"

namespace ultraspeed::net {

class StreamAdapter {
 public:
  using executor_type = boost::asio::io_context::executor_type;

  // `input`: bytes that were read from the stream already.
  StreamAdapter(boost::asio::io_context& io, std::unique_ptr<Stream> stream, std::string input)
      : io_(io), stream_(std::move(stream)), input_(std::move(input)) {}

  executor_type get_executor() { return io_.get_executor(); }

  template <class Buffers, class Handler>
  auto async_read_some(const Buffers& buffers, Handler&& handler) {
    return boost::asio::async_initiate<Handler, Signature>(
        [this](auto&& done, const Buffers& to) { read(first_of(to), copyable(std::move(done))); },
        handler, buffers);
  }

  // A frame's head and its payload leave together, as one packet or record.
  template <class Buffers, class Handler>
  auto async_write_some(const Buffers& buffers, Handler&& handler) {
    return boost::asio::async_initiate<Handler, Signature>(
        [this](auto&& done, const Buffers& from) {
          output_.resize(std::min(boost::asio::buffer_size(from), kMaxWriteBytes));
          boost::asio::buffer_copy(boost::asio::buffer(output_), from);
          write(copyable(std::move(done)));
        },
        handler, buffers);
  }

  // Ends sending, and discards what still comes, so that the client can read what was sent.
  void tear_down(std::function<void(const boost::system::error_code&)> done);
  bool is_torn_down() const { return is_torn_down_; }
  void close() { stream_->close(); }

  // When the client last took something that waited for it.
  std::chrono::steady_clock::time_point last_write() const { return last_write_; }

 private:
  using Signature = void(boost::system::error_code, size_t);
  static constexpr size_t kMaxWriteBytes = 64 << 10;

  template <class Buffers>
  static boost::asio::mutable_buffer first_of(const Buffers& buffers) {
    for (auto it = boost::asio::buffer_sequence_begin(buffers);
         it != boost::asio::buffer_sequence_end(buffers); ++it) {
      if (boost::asio::mutable_buffer(*it).size() > 0) return *it;
    }
    return {};
  }
  // Beast's handlers can be moved alone.
  template <class Handler>
  static Stream::Handler copyable(Handler&& handler) {
    auto shared = std::make_shared<std::decay_t<Handler>>(std::forward<Handler>(handler));
    return
        [shared](const boost::system::error_code& error, size_t size) { (*shared)(error, size); };
  }
  void read(boost::asio::mutable_buffer buffer, Stream::Handler handler);
  void write(Stream::Handler handler);
  void discard(std::shared_ptr<std::vector<char>> buffer,
               std::function<void(const boost::system::error_code&)> done);

  boost::asio::io_context& io_;
  std::unique_ptr<Stream> stream_;
  std::string input_;
  std::vector<char> output_;
  bool is_torn_down_ = false;
  std::chrono::steady_clock::time_point last_write_ = std::chrono::steady_clock::now();
};

// How Beast ends the connection below a WebSocket; found by its argument.
template <class Handler>
void async_teardown(boost::beast::role_type, StreamAdapter& stream, Handler&& handler) {
  auto shared = std::make_shared<std::decay_t<Handler>>(std::forward<Handler>(handler));
  stream.tear_down([shared](const boost::system::error_code& error) { (*shared)(error); });
}
inline void beast_close_socket(StreamAdapter& stream) {
  stream.close();
}

}  // namespace ultraspeed::net
