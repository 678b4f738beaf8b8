#include "quantize/conversion.h"

#include <algorithm>
#include <charconv>

#include "model/tensor_names.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::quantize {
namespace {

using model::Dtype;
using tensor::WeightFormat;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Takes digits off the front; leading zeros do not count.
std::string_view take_number(std::string_view* text) {
  size_t end = 0;
  while (end < text->size() && is_digit((*text)[end])) ++end;
  std::string_view digits = text->substr(0, end);
  text->remove_prefix(end);
  while (digits.size() > 1 && digits.front() == '0') digits.remove_prefix(1);
  return digits;
}

// "mlp.experts.7.gate_proj" -> true
bool is_expert(std::string_view name) {
  constexpr std::string_view kExperts = "mlp.experts.";
  if (!name.starts_with(kExperts)) return false;
  name.remove_prefix(kExperts.size());
  if (take_number(&name).empty()) return false;
  return name == ".gate_proj" || name == ".up_proj" || name == ".down_proj";
}

// What follows "model.layers.7." or "model.mtp.layers.0."; empty elsewhere.
std::string_view name_in_layer(std::string_view module) {
  for (const std::string_view prefix : {"model.layers.", "model.mtp.layers."}) {
    if (!module.starts_with(prefix)) continue;
    module.remove_prefix(prefix.size());
    if (take_number(&module).empty() || !module.starts_with('.')) return {};
    return module.substr(1);
  }
  return {};
}

Form wanted_form(TensorKind kind, const Family& family, const LinearOptions& options) {
  const auto form_of = [](LinearForm form) {
    return form == LinearForm::kFp8 ? Form::kFp8 : Form::kCopy;
  };
  switch (kind) {
    case TensorKind::kExpert:
      return Form::kMxfp4;
    case TensorKind::kQkv:
    case TensorKind::kDenseFfn:
      return form_of(options.linears);
    case TensorKind::kOutputProjection:
      if (options.output_projections != LinearForm::kPublished) {
        return form_of(options.output_projections);
      }
      return family.keeps_output_projections ? Form::kCopy : form_of(options.linears);
    case TensorKind::kEmbedding:
      return form_of(options.embedding);
    case TensorKind::kHead:
      return form_of(options.head);
    case TensorKind::kOther:
      return Form::kCopy;
  }
  return Form::kCopy;
}

bool is_linear(TensorKind kind) {
  return kind == TensorKind::kQkv || kind == TensorKind::kOutputProjection ||
         kind == TensorKind::kDenseFfn;
}

Conversion copy_of(const model::TensorRef& tensor, std::string module, TensorKind kind) {
  Conversion conversion;
  conversion.module = std::move(module);
  conversion.kind = kind;
  conversion.copied = tensor;
  conversion.outputs = {{std::string(tensor.name), tensor.info->dtype, tensor.info->shape}};
  return conversion;
}

Result<Conversion> to_mxfp4(Conversion conversion) {
  const StoredMatrix& source = conversion.source;
  if (source.columns % tensor::kMxBlockColumns != 0) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: tensor '{}' has {} columns; expected a multiple of 32 for MXFP4",
                      source.weight.file->path(), source.weight.name, source.columns);
  }
  conversion.form = Form::kMxfp4;
  conversion.outputs = {{conversion.module + std::string(model::kWeightSuffix),
                         Dtype::kU8,
                         {source.rows, source.columns / 2}},
                        {conversion.module + std::string(model::kMxScaleSuffix),
                         Dtype::kU8,
                         {source.rows, source.columns / tensor::kMxBlockColumns}}};
  return conversion;
}

Result<Conversion> to_fp8(Conversion conversion, const GridHint& hint) {
  const StoredMatrix& source = conversion.source;
  conversion.form = Form::kFp8;
  if (hint.must_restart) {
    if (source.rows % hint.restart_chunks != 0) {
      return make_error(ErrorCode::kInvalidData,
                        "{}: tensor '{}' has {} rows; expected a multiple of the {} chunks of a "
                        "fused qkv",
                        source.weight.file->path(), source.weight.name, source.rows,
                        hint.restart_chunks);
    }
    conversion.grid_chunks = hint.restart_chunks;
  }
  const uint64_t grid_columns = tensor::scale_columns(WeightFormat::kFp8Block128, source.columns);
  conversion.outputs = {{conversion.module + std::string(model::kWeightSuffix),
                         Dtype::kF8E4m3,
                         {source.rows, source.columns}},
                        {conversion.module + std::string(model::kFp8ScaleSuffix),
                         Dtype::kF32,
                         {conversion.grid().num_rows(), grid_columns}}};
  return conversion;
}

class Planner {
 public:
  Planner(const model::Checkpoint& checkpoint, const Family& family, const LinearOptions& options)
      : checkpoint_(checkpoint), family_(family), options_(options) {}

  Result<ConversionPlan> plan() {
    plan_.tp_size = checkpoint_.tp_size();
    for (const model::SafetensorsFile& file : checkpoint_.files()) {
      for (const auto& [name, info] : file.header().tensors) {
        US_TRY(add({name, &file, &info}));
      }
    }
    auto& all = plan_.conversions;
    std::sort(all.begin(), all.end(), [](const Conversion& a, const Conversion& b) {
      return comes_before(a.name(), b.name());
    });
    auto& ignored = plan_.form.ignored_layers;
    std::sort(ignored.begin(), ignored.end(), comes_before);
    return std::move(plan_);
  }

 private:
  Status add(const model::TensorRef& tensor) {
    for (const std::string_view suffix : {model::kFp8ScaleSuffix, model::kMxScaleSuffix}) {
      if (tensor.name.ends_with(suffix)) {
        return check_scale(tensor, tensor.name.substr(0, tensor.name.size() - suffix.size()));
      }
    }
    if (!tensor.name.ends_with(model::kWeightSuffix)) {
      plan_.conversions.push_back(copy_of(tensor, std::string(tensor.name), TensorKind::kOther));
      return {};
    }
    const std::string module(
        tensor.name.substr(0, tensor.name.size() - model::kWeightSuffix.size()));
    const TensorKind kind = tensor_kind(module);
    if (kind == TensorKind::kOther) {
      copy(tensor, module, kind);
      return {};
    }
    return add_matrix(tensor, module, kind);
  }

  // Scales go with their weights.
  Status check_scale(const model::TensorRef& scale, std::string_view module) {
    if (checkpoint_.find(std::string(module) + std::string(model::kWeightSuffix))) return {};
    return make_error(ErrorCode::kInvalidData, "{}: tensor '{}' has no '{}{}'; expected its weight",
                      scale.file->path(), scale.name, module, model::kWeightSuffix);
  }

  void copy(const model::TensorRef& tensor, const std::string& module, TensorKind kind) {
    plan_.conversions.push_back(copy_of(tensor, module, kind));
    for (const std::string_view suffix : {model::kFp8ScaleSuffix, model::kMxScaleSuffix}) {
      const auto scale = checkpoint_.find(module + std::string(suffix));
      if (scale) plan_.conversions.push_back(copy_of(*scale, module, kind));
    }
  }

  Status add_matrix(const model::TensorRef& tensor, const std::string& module, TensorKind kind) {
    const GridHint hint = kind == TensorKind::kQkv ? family_.qkv_grid : GridHint{};
    US_ASSIGN(const StoredMatrix source, find_matrix(checkpoint_, module, hint));
    const bool is_plain =
        source.format == WeightFormat::kBf16 || source.format == WeightFormat::kF32;
    const Form form = wanted_form(kind, family_, options_);
    if (form == Form::kCopy || (form == Form::kFp8 && !is_plain)) {
      if (is_plain && is_linear(kind)) plan_.form.ignored_layers.push_back(module);
      copy(tensor, module, kind);
      return {};
    }
    Conversion conversion;
    conversion.module = module;
    conversion.kind = kind;
    conversion.source = source;
    if (form == Form::kMxfp4) {
      plan_.form.has_mxfp4_experts = true;
      US_ASSIGN(plan_.conversions.emplace_back(), to_mxfp4(std::move(conversion)));
    } else {
      US_ASSIGN(plan_.conversions.emplace_back(), to_fp8(std::move(conversion), hint));
    }
    return {};
  }

  const model::Checkpoint& checkpoint_;
  const Family& family_;
  const LinearOptions& options_;
  ConversionPlan plan_;
};

}  // namespace

std::string_view linear_form_name(LinearForm form) {
  switch (form) {
    case LinearForm::kFp8:
      return "fp8";
    case LinearForm::kKeep:
      return "keep";
    case LinearForm::kPublished:
      return "published";
  }
  return "?";
}

std::string_view tensor_kind_name(TensorKind kind) {
  switch (kind) {
    case TensorKind::kExpert:
      return "experts";
    case TensorKind::kQkv:
      return "q, k, v projections";
    case TensorKind::kOutputProjection:
      return "output projections";
    case TensorKind::kDenseFfn:
      return "dense feed-forward";
    case TensorKind::kEmbedding:
      return "embedding";
    case TensorKind::kHead:
      return "head";
    case TensorKind::kOther:
      return "norms, routers, others";
  }
  return "?";
}

TensorKind tensor_kind(std::string_view module) {
  if (module == model::kEmbeddingModule) return TensorKind::kEmbedding;
  if (module == model::kLmHeadModule) return TensorKind::kHead;
  const std::string_view name = name_in_layer(module);
  if (is_expert(name)) return TensorKind::kExpert;
  if (name == model::kQkvModule || name == model::kQModule || name == model::kKModule ||
      name == model::kVModule) {
    return TensorKind::kQkv;
  }
  if (name == model::kOModule) return TensorKind::kOutputProjection;
  if (name == model::kDenseGateModule || name == model::kDenseUpModule ||
      name == model::kDenseDownModule) {
    return TensorKind::kDenseFfn;
  }
  return TensorKind::kOther;
}

uint64_t OutputTensor::bytes() const {
  uint64_t bytes = model::dtype_bytes(dtype);
  for (const uint64_t size : shape) bytes *= size;
  return bytes;
}

uint64_t Conversion::source_bytes() const {
  return form == Form::kCopy ? copied.info->bytes : source.stored_bytes();
}

uint64_t Conversion::output_bytes() const {
  uint64_t bytes = 0;
  for (const OutputTensor& output : outputs) bytes += output.bytes();
  return bytes;
}

Result<ConversionPlan> plan_conversions(const model::Checkpoint& checkpoint, const Family& family,
                                        const LinearOptions& options) {
  return Planner(checkpoint, family, options).plan();
}

bool comes_before(std::string_view a, std::string_view b) {
  const std::string_view whole_a = a, whole_b = b;
  while (!a.empty() && !b.empty()) {
    if (is_digit(a.front()) && is_digit(b.front())) {
      const std::string_view left = take_number(&a);
      const std::string_view right = take_number(&b);
      if (left.size() != right.size()) return left.size() < right.size();
      if (left != right) return left < right;
      continue;
    }
    if (a.front() != b.front()) return a.front() < b.front();
    a.remove_prefix(1);
    b.remove_prefix(1);
  }
  if (a.size() != b.size()) return a.size() < b.size();
  return whole_a < whole_b;  // "01" and "1"
}

}  // namespace ultraspeed::quantize
