// What the experts of a model read in a text: a file that a calibrated run keeps while it lasts.
// Of each layer of experts it has a route and a row for each token.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/output_folder.h"
#include "base/result.h"
#include "quantize/digest.h"

namespace ultraspeed::quantize {

struct ExpertInputsShape {
  uint32_t hidden_size = 0;
  uint32_t num_experts = 0;
  uint32_t top_k = 0;  // experts of a token
  uint64_t num_tokens = 0;
  std::vector<uint32_t> layers;  // those with experts, as the checkpoint counts them

  uint64_t file_bytes() const;
};

class ExpertInputsWriter {
 public:
  // A new file of the shape's size. The folder outlives the writer.
  static Result<ExpertInputsWriter> create(const OutputFolder& folder, std::string_view name,
                                           const ExpertInputsShape& shape);

  // Of tokens from `first_token` on, each once: `rows` BF16 [tokens, hidden_size], the normed
  // residuals; `routes` [tokens, top_k], the experts that they go to. `layer` is a place in
  // shape.layers. Errors: kInvalidData for rows with NaN or infinity, naming layer and token; kIo.
  Status add(uint32_t layer, uint64_t first_token, std::span<const uint16_t> rows,
             std::span<const uint32_t> routes);

  // Writes the checksum; without it nobody takes the file for whole.
  Status finish() const;

 private:
  ExpertInputsWriter(const OutputFolder& folder, OutputFile file, ExpertInputsShape shape)
      : folder_(&folder), file_(std::move(file)), shape_(std::move(shape)) {}

  const OutputFolder* folder_;
  OutputFile file_;
  ExpertInputsShape shape_;
  Digest digest_;
};

class ExpertInputs {
 public:
  // Reads the whole file once. Errors: kInvalidData for one that is not what was written.
  static Result<ExpertInputs> open(const std::string& path, const ExpertInputsShape& shape);

  const ExpertInputsShape& shape() const { return shape_; }

  // [num_tokens, top_k]
  Result<std::vector<uint32_t>> routes(uint32_t layer) const;
  // f32 [hidden_size]
  Status read_row(uint32_t layer, uint64_t token, std::span<float> out) const;
  // Drops the pages of rows that were read.
  void forget_rows(uint32_t layer, uint64_t first_token, uint64_t count) const;

 private:
  ExpertInputs(MappedFile file, ExpertInputsShape shape)
      : file_(std::move(file)), shape_(std::move(shape)) {}

  MappedFile file_;
  ExpertInputsShape shape_;
};

}  // namespace ultraspeed::quantize
