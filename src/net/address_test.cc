#include "net/address.h"

#include <gtest/gtest.h>

namespace ultraspeed::net {
namespace {

TEST(Address, Loopback) {
  for (const char* address : {"127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(is_loopback(address)) << address;
  }
  for (const char* address : {"", "0.0.0.0", "::", "128.0.0.1", "126.0.0.1", "10.0.0.1", "::2",
                              "localhost", "127.0.0.1.example.com", "127.1", "127.0.0.1 "}) {
    EXPECT_FALSE(is_loopback(address)) << address;
  }
}

TEST(Address, Ranges) {
  const auto contains = [](const char* range, const char* address) {
    const auto parsed = AddressRange::parse(range);
    EXPECT_TRUE(parsed) << range;
    return parsed && parsed->contains(address);
  };
  EXPECT_TRUE(contains("10.0.0.7", "10.0.0.7"));
  EXPECT_FALSE(contains("10.0.0.7", "10.0.0.6"));
  EXPECT_TRUE(contains("10.0.0.0/8", "10.200.3.4"));
  EXPECT_TRUE(contains("10.0.0.0/8", "::ffff:10.200.3.4"));
  EXPECT_FALSE(contains("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(contains("192.168.4.0/22", "192.168.7.255"));
  EXPECT_FALSE(contains("192.168.4.0/22", "192.168.8.0"));
  EXPECT_TRUE(contains("0.0.0.0/0", "1.2.3.4"));
  EXPECT_FALSE(contains("0.0.0.0/0", "fd00::1"));
  EXPECT_TRUE(contains("fd00::/8", "fd12::1"));
  EXPECT_FALSE(contains("fd00::/8", "fe00::1"));
  EXPECT_FALSE(contains("::/0", "a name"));
}

TEST(Address, BrokenRangesAreErrors) {
  for (const char* text : {"", "name", "10.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
                           "10.0.0.0/8x", "/8", "fd00::/129"}) {
    const auto range = AddressRange::parse(text);
    ASSERT_FALSE(range) << text;
    EXPECT_NE(range.error().message.find("expected one like"), std::string::npos);
  }
}

}  // namespace
}  // namespace ultraspeed::net
