// The page's own routes, below /api/: logging in, applications, keys, usage, the chat's queue, and
// administration. Each works in a session of the page, which the gate of access/ checks. What they
// do waits for a disk or computes a password's hash, so it runs on threads of its own.
// docs/access.md lists the routes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "access/service.h"
#include "server/exchange.h"
#include "server/page_json.h"
#include "server/release.h"
#include "server/task_pool.h"

namespace ultraspeed::server {

inline constexpr std::string_view kPageApiPath = "/api/";
// Answered as the same below /v1/ is, in a session instead of with a key.
inline constexpr std::string_view kPageChatPath = "/api/chat/completions";

struct PageFacts {
  std::vector<PageModel> models;
  uint32_t max_model_len = 0;
  bool has_tls = false;
};

class PageApi {
 public:
  // `service`: nullptr: there are no accounts, and the page is told so. Outlives this.
  PageApi(access::Service* service, PageFacts facts, Post post);

  // On the event loop. `address`: the client's.
  // `is_behind_tls`: a proxy's client speaks TLS.
  void answer(const net::HttpRequest& request, const std::string& address, bool is_behind_tls,
              const std::shared_ptr<Exchange>& exchange);
  void stop();

 private:
  struct Call {
    net::HttpRequest request;
    std::string address;
    bool has_tls = false;       // cookies are for TLS alone
    access::Identity identity;  // who asks
    std::string last_segment;   // of the path
    Json body = Json::object();
  };
  using Handler = ApiResult<net::HttpResponse> (PageApi::*)(const Call&) const;
  // What a request takes: some kinds have threads of their own, so that many of them delay no
  // other.
  enum class Work : uint8_t {
    kQuick,
    kPassword,  // 0.1 s and 64 MiB
    kReport,    // reads the ledger; an account's one at a time
  };
  static constexpr size_t kNumWorks = 3;
  struct Entry {
    std::string_view method;
    std::string_view path;  // "/*" at its end: and one more segment
    access::RouteClass route;
    Handler handler;
    Work work = Work::kQuick;
  };
  static std::span<const Entry> entries();

  ApiStatus begin_report(const Entry& entry, Call& call);
  ApiResult<net::HttpResponse> run(const Entry& entry, Call& call) const;

  ApiResult<net::HttpResponse> session(const Call& call) const;
  ApiResult<net::HttpResponse> log_in(const Call& call) const;
  ApiResult<net::HttpResponse> log_out(const Call& call) const;
  ApiResult<net::HttpResponse> apply(const Call& call) const;
  ApiResult<net::HttpResponse> application(const Call& call) const;
  ApiResult<net::HttpResponse> own_keys(const Call& call) const;
  ApiResult<net::HttpResponse> create_own_key(const Call& call) const;
  ApiResult<net::HttpResponse> revoke_own_key(const Call& call) const;
  ApiResult<net::HttpResponse> own_usage(const Call& call) const;
  ApiResult<net::HttpResponse> own_ledger(const Call& call) const;
  ApiResult<net::HttpResponse> chat_state(const Call& call) const;
  ApiResult<net::HttpResponse> join_chat(const Call& call) const;
  ApiResult<net::HttpResponse> leave_chat(const Call& call) const;
  ApiResult<net::HttpResponse> applications(const Call& call) const;
  ApiResult<net::HttpResponse> decide_application(const Call& call) const;
  ApiResult<net::HttpResponse> all_keys(const Call& call) const;
  ApiResult<net::HttpResponse> create_key(const Call& call) const;
  ApiResult<net::HttpResponse> revoke_key(const Call& call) const;
  ApiResult<net::HttpResponse> all_usage(const Call& call) const;
  ApiResult<net::HttpResponse> whole_ledger(const Call& call) const;
  ApiResult<net::HttpResponse> audit(const Call& call) const;

  Json session_json(const access::Account& account, std::string_view session_token) const;
  ApiResult<net::HttpResponse> keys(const Call& call, std::optional<int64_t> account_id) const;
  ApiResult<net::HttpResponse> revoke(const Call& call, std::optional<int64_t> account_id) const;
  ApiResult<access::LedgerFilter> filter(const Call& call, std::optional<int64_t> account_id) const;
  ApiResult<net::HttpResponse> usage(const Call& call, std::optional<int64_t> account_id) const;
  ApiResult<net::HttpResponse> ledger(const Call& call, std::optional<int64_t> account_id) const;

  access::Service* const service_;
  const PageFacts facts_;
  const Post post_;
  // Accounts whose report is under way, or waits. Of the event loop.
  std::unordered_set<int64_t> reported_;
  std::array<TaskPool, kNumWorks> pools_;
};

}  // namespace ultraspeed::server
