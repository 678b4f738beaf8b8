#include "train/selector.h"

#include <algorithm>
#include <vector>

#include "base/check.h"

namespace ultraspeed::train {
namespace {

torch::Tensor product(const torch::Tensor& x, const torch::Tensor& matrix, torch::Dtype compute) {
  return x.to(compute).matmul(matrix.to(compute).t()).to(matrix.scalar_type());
}

// What tokens of any shape have in the selector, [..., rank]. Of the whole table, for the same
// tokens come again and again.
torch::Tensor codes(const torch::Tensor& table, const torch::Tensor& matrix,
                    const torch::Tensor& tokens) {
  const torch::Tensor all = product(table, matrix, table.scalar_type());  // [vocab, rank]
  std::vector<int64_t> shape = tokens.sizes().vec();
  shape.push_back(all.size(1));
  return all.index_select(0, tokens.flatten()).view(shape);
}

}  // namespace

Selector selector_of(const DrafterNet& net, const torch::Tensor& embedding,
                     const torch::Tensor& head) {
  const model::DrafterConfig::Selector& config = net.config().selector;
  US_CHECK(config.rank != 0, "a net without selector");
  Selector selector;
  selector.num_candidates = config.num_candidates;
  selector.predecessor = net.at("selector.predecessor_proj.weight");
  selector.successor = net.at("selector.successor_proj.weight");
  selector.hidden = net.at("selector.hidden_proj.weight");
  selector.embedding = embedding.to(net.options().compute);
  selector.head = head.to(net.options().compute);
  return selector;
}

Candidates candidates_of(const torch::Tensor& logits, int64_t count) {
  const torch::Tensor ids = std::get<1>(logits.detach().topk(std::min(count, logits.size(-1)), -1));
  return {ids, logits.gather(-1, ids)};
}

torch::Tensor score(const Selector& selector, const Candidates& candidates,
                    const torch::Tensor& previous, const torch::Tensor& rows) {
  const torch::Tensor joined = codes(selector.embedding, selector.predecessor, previous) *
                               product(rows, selector.hidden, selector.head.scalar_type());
  const torch::Tensor successors = codes(selector.head, selector.successor, candidates.ids);
  return candidates.logits + (successors * joined.unsqueeze(-2)).sum(-1);
}

torch::Tensor choose(const Selector& selector, const torch::Tensor& logits,
                     const torch::Tensor& anchors, const torch::Tensor& rows) {
  std::vector<torch::Tensor> chosen;
  torch::Tensor previous = anchors;
  for (int64_t mask = 0; mask < logits.size(1); ++mask) {
    const Candidates candidates = candidates_of(logits.select(1, mask), selector.num_candidates);
    const torch::Tensor best =
        score(selector, candidates, previous, rows.select(1, mask)).argmax(-1, true);
    previous = candidates.ids.gather(-1, best).squeeze(-1);
    chosen.push_back(previous);
  }
  return torch::stack(chosen, 1);
}

}  // namespace ultraspeed::train
