// Grammars that requests ask for, compiled once for the served model's vocabulary. Compiling takes
// up to 50 ms and belongs on a parsing thread; masks are made on a thread of the cache, while the
// prompt is computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/result.h"
#include "grammar/mask_table.h"
#include "grammar/matcher.h"
#include "grammar/vocabulary.h"
#include "server/grammar_request.h"
#include "server/task_pool.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

// Thread-safe.
class CompiledGrammar {
 public:
  // has_markers: the vocabulary has those of calls and channels as text.
  CompiledGrammar(grammar::Grammar grammar, std::shared_ptr<const grammar::Vocabulary> vocabulary,
                  bool has_markers);

  grammar::Matcher matcher() { return grammar::Matcher(&masks_); }
  const grammar::Vocabulary& vocabulary() const { return *vocabulary_; }
  bool has_markers() const { return has_markers_; }
  void prepare() { masks_.prepare(); }
  size_t num_bytes() const { return grammar_.num_bytes() + masks_.num_bytes(); }

 private:
  const grammar::Grammar grammar_;
  const std::shared_ptr<const grammar::Vocabulary> vocabulary_;
  const bool has_markers_;
  grammar::MaskTable masks_;
};

// Thread-safe. Keeps the grammars that were asked for last.
class GrammarCache {
 public:
  static constexpr size_t kMaxGrammars = 64;
  static constexpr size_t kMaxBytes = 256 << 20;     // of those that nobody uses any more
  static constexpr size_t kMaxMaskBytes = 16 << 20;  // of one; further masks are made each time
  static constexpr size_t kMaxPreparing = 8;         // beyond, masks are made as they are needed

  // syntax: the model's.
  GrammarCache(const text::Tokenizer& tokenizer, std::span<const int32_t> stop_ids,
               ToolSyntax syntax = ToolSyntax::kNone);

  // Errors: those of the languages (docs/grammars.md), in words that name no field.
  // `client`: whose it is; others compile it again, so that the time tells nobody of it.
  Result<std::shared_ptr<CompiledGrammar>> get(const GrammarSource& source,
                                               const std::string& client = {});

  size_t num_grammars() const;

 private:
  struct Entry {
    std::string client;
    GrammarSource source;
    std::shared_ptr<CompiledGrammar> grammar;
  };

  std::shared_ptr<CompiledGrammar> find(const GrammarSource& source, const std::string& client);
  void drop_oldest();

  const std::shared_ptr<const grammar::Vocabulary> text_vocabulary_;
  const std::shared_ptr<const grammar::Vocabulary> marked_vocabulary_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // the one that was asked for last comes first
  std::atomic<size_t> num_preparing_ = 0;
  TaskPool preparing_{1};
};

// The cache as one client sees it.
class ClientGrammars {
 public:
  ClientGrammars(GrammarCache& cache, std::string client)
      : cache_(cache), client_(std::move(client)) {}
  Result<std::shared_ptr<CompiledGrammar>> get(const GrammarSource& source) const {
    return cache_.get(source, client_);
  }

 private:
  GrammarCache& cache_;
  const std::string client_;
};

}  // namespace ultraspeed::server
