#include "server/encode_memory.h"

#include <algorithm>
#include <utility>

namespace ultraspeed::server {
namespace {

constexpr size_t kMinNewBytes = 1024;  // of a text that is worth remembering
constexpr size_t kEntryBytes = 256;

// The ranges of a text as those of what follows its first `begin` bytes.
std::vector<text::ByteRange> ranges_behind(const std::vector<text::ByteRange>& ranges,
                                           size_t begin) {
  std::vector<text::ByteRange> behind;
  for (const text::ByteRange& range : ranges) {
    if (range.end <= begin) continue;
    behind.push_back({std::max(range.begin, begin) - begin, range.end - begin});
  }
  return behind;
}

}  // namespace

size_t EncodeMemory::bytes_of(const Known& known) {
  return known.domain.size() + known.text.size() + known.ids.size() * sizeof(int32_t) +
         known.plain.size() * sizeof(text::ByteRange) + known.joints.size() * sizeof(Joint) +
         kEntryBytes;
}

// None, where the tokens' bytes are not the text: where white space was swallowed, say.
std::vector<EncodeMemory::Joint> EncodeMemory::joints_of(std::string_view text,
                                                         const std::vector<int32_t>& ids) const {
  std::vector<Joint> joints;
  size_t size = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string_view bytes = tokenizer_.token_bytes(ids[i]);
    if (text.substr(std::min(size, text.size()), bytes.size()) != bytes) return {};
    size += bytes.size();
    if (tokenizer_.is_border(ids[i])) joints.push_back({size, i + 1});
  }
  return size == text.size() ? joints : std::vector<Joint>();
}

EncodeMemory::Begin EncodeMemory::find(const std::string& domain,
                                       const text::RenderedPrompt& prompt) {
  const std::lock_guard lock(mutex_);
  auto best = known_.end();
  const Joint* best_joint = nullptr;
  for (auto known = known_.begin(); known != known_.end(); ++known) {
    if (known->domain != domain) continue;
    const auto differs = std::ranges::mismatch(known->text, prompt.text);
    size_t common = static_cast<size_t>(differs.in1 - known->text.begin());
    const auto ranges = std::ranges::mismatch(
        known->plain, prompt.input_ranges, [](const text::ByteRange& a, const text::ByteRange& b) {
          return a.begin == b.begin && a.end == b.end;
        });
    if (ranges.in1 != known->plain.end()) common = std::min(common, ranges.in1->begin);
    if (ranges.in2 != prompt.input_ranges.end()) common = std::min(common, ranges.in2->begin);
    for (const Joint& joint : known->joints) {
      if (joint.text_size + reach_bytes_ > common) break;
      if (best_joint != nullptr && joint.text_size <= best_joint->text_size) continue;
      best_joint = &joint;
      best = known;
    }
  }
  if (best_joint == nullptr) return {};
  known_.splice(known_.begin(), known_, best);
  return {best_joint->text_size,
          {best->ids.begin(), best->ids.begin() + static_cast<ptrdiff_t>(best_joint->num_ids)}};
}

void EncodeMemory::keep(Known known) {
  const std::lock_guard lock(mutex_);
  bytes_ += bytes_of(known);
  known_.push_front(std::move(known));
  trim();
}

void EncodeMemory::set_max_bytes(size_t max_bytes) {
  const std::lock_guard lock(mutex_);
  max_bytes_ = max_bytes;
  trim();
}

void EncodeMemory::trim() {
  while (bytes_ > max_bytes_) {
    bytes_ -= bytes_of(known_.back());
    known_.pop_back();
  }
}

Result<std::vector<int32_t>> EncodeMemory::encode(const std::string& domain,
                                                  const text::RenderedPrompt& prompt) {
  Begin begin = find(domain, prompt);
  const std::string_view rest = std::string_view(prompt.text).substr(begin.text_size);
  const std::vector<text::ByteRange> plain = ranges_behind(prompt.input_ranges, begin.text_size);
  US_ASSIGN(const std::vector<int32_t> ids,
            tokenizer_.encode(rest, {.parse_special = true, .plain_ranges = plain}));
  begin.ids.insert(begin.ids.end(), ids.begin(), ids.end());
  if (rest.size() >= kMinNewBytes) {
    keep({domain, prompt.text, prompt.input_ranges, begin.ids, joints_of(prompt.text, begin.ids)});
  }
  return std::move(begin.ids);
}

}  // namespace ultraspeed::server
