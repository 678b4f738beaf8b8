// What becomes of each tensor of a checkpoint: copied, or turned into FP8 or MXFP4.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"
#include "quantize/family.h"
#include "quantize/scale_rule.h"
#include "quantize/stored_matrix.h"

namespace ultraspeed::quantize {

enum class TensorKind : uint8_t {
  kExpert,
  kQkv,
  kOutputProjection,
  kDenseFfn,
  kEmbedding,
  kHead,
  kOther,  // norms, routers, biases, sinks, and what the engine does not know
};
inline constexpr std::array kAllTensorKinds = {
    TensorKind::kExpert,   TensorKind::kQkv,       TensorKind::kOutputProjection,
    TensorKind::kDenseFfn, TensorKind::kEmbedding, TensorKind::kHead,
    TensorKind::kOther};
std::string_view tensor_kind_name(TensorKind kind);

// By the names of docs/weights_format.md; `module` is a tensor's name without ".weight".
TensorKind tensor_kind(std::string_view module);

enum class Form : uint8_t { kCopy, kFp8, kMxfp4 };

// Which matrices become FP8; experts always become MXFP4.
enum class LinearForm : uint8_t {
  kFp8,
  kKeep,
  kPublished,  // as published checkpoints of the family have it
};
inline constexpr std::array kLinearForms = {LinearForm::kFp8, LinearForm::kKeep};
inline constexpr std::array kOutputProjectionForms = {LinearForm::kPublished, LinearForm::kFp8,
                                                      LinearForm::kKeep};
std::string_view linear_form_name(LinearForm form);

struct LinearOptions {
  LinearForm linears = LinearForm::kFp8;  // q, k, v and dense feed-forward layers
  LinearForm output_projections = LinearForm::kPublished;
  LinearForm embedding = LinearForm::kKeep;
  LinearForm head = LinearForm::kKeep;
};

struct OutputTensor {
  std::string name;
  model::Dtype dtype = model::Dtype::kU8;
  std::vector<uint64_t> shape;

  uint64_t bytes() const;
};

// Of an expert's matrix that is rounded by what it reads (calibration.h): whose inputs these are.
struct MatrixInput {
  uint32_t layer = 0;  // of ExpertInputsShape::layers
  uint32_t expert = 0;
  // Of down: the conversions of gate and up, whose activation it reads. Gate and up read the normed
  // residual; of both this is gate, twice.
  uint32_t gate = 0, up = 0;

  bool is_inner() const { return gate != up; }
  bool operator==(const MatrixInput&) const = default;
};

struct Conversion {
  std::string module;  // without ".weight"; for what is copied the tensor's name
  TensorKind kind = TensorKind::kOther;
  Form form = Form::kCopy;
  model::TensorRef copied;            // kCopy
  StoredMatrix source;                // else
  uint32_t grid_chunks = 1;           // of kFp8's scale grid
  std::vector<OutputTensor> outputs;  // the tensor; of kFp8 and kMxfp4 its scales, too
  std::optional<MatrixInput> input;   // of kMxfp4 in a calibrated run

  ScaleGrid grid() const { return {source.rows, grid_chunks}; }
  const std::string& name() const { return outputs.front().name; }
  uint64_t source_bytes() const;
  uint64_t output_bytes() const;
};

struct ConversionPlan {
  std::vector<Conversion> conversions;  // in the order of their names, numbers by value
  QuantizedForm form;
  std::optional<uint32_t> tp_size;  // the index's
};

// Errors: kUnsupported for experts whose columns 32 does not divide and for dtypes that cannot be
// read, kInvalidData for scales without weights; both name the tensor. The checkpoint must outlive
// the plan.
Result<ConversionPlan> plan_conversions(const model::Checkpoint& checkpoint, const Family& family,
                                        const LinearOptions& options);

// "layers.2" before "layers.10".
bool comes_before(std::string_view a, std::string_view b);

}  // namespace ultraspeed::quantize
