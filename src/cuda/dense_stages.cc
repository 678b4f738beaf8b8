#include "cuda/dense_stages.h"

#include <algorithm>
#include <variant>

#include "base/check.h"
#include "cuda/linear_output.h"
#include "cuda/tile/dense_operand.h"

namespace ultraspeed::cuda {
namespace {

using tensor::WeightFormat;

Result<DenseLaunch> group_launch(WeightFormat format, const ColumnGroup& columns) {
  DenseLaunch launch;
  static_cast<ColumnGroup&>(launch) = columns;
  launch.format = format;
  US_TRY(cuda_status(set_clusters(&launch), "asking how many dense kernels run at once"));
  return launch;
}

}  // namespace

void add_dense_scratch(const program::Program& program, std::span<const WeightForm> weight_forms,
                       ScratchFloats* floats) {
  const auto need = [&](ScratchBuffer buffer, program::WeightId weight, uint64_t row) {
    if (!is_dense(weight_forms[weight])) return;
    uint64_t& count = (*floats)[buffer];
    count = std::max(count, program.width * row);
  };
  for (const program::Stage& stage : program.stages) {
    if (const auto* qkv = std::get_if<program::QkvProjOperands>(&stage.operands);
        qkv != nullptr && has_head_norms(*qkv)) {
      need(kHeadSumScratch, qkv->weight, program.weights[qkv->weight].rows);
    } else if (const auto* linear = std::get_if<program::LinearOperands>(&stage.operands);
               linear != nullptr && linear->more_inputs[0] != program::kNoId) {
      need(kJoinedScratch, linear->weight, program.weights[linear->weight].cols);
    }
  }
}

Result<DenseStages> DenseStages::make(const Machine& machine, uint32_t program,
                                      const StepView* step) {
  DenseStages stages(machine, program, step);
  const program::Program& of = stages.program();
  const uint32_t columns = column_groups(of.width, step).front().columns;
  uint64_t largest_bytes = 0;
  for (const program::Stage& stage : of.stages) {
    const Status added = std::visit(
        [&](const auto& op) -> Status {
          if constexpr (requires { op.weight; }) {
            const WeightForm form = machine.form(op.weight);
            if (!is_dense(form)) return {};
            const program::WeightDecl& decl = of.weights[op.weight];
            largest_bytes = std::max(
                largest_bytes,
                dense_operand_bytes(decl.format, columns, decl.cols, form_chunks(of, form)));
          }
          if constexpr (requires { op.rope; }) return stages.add_kind(op);
          return {};
        },
        stage.operands);
    US_TRY(added);
  }
  if (largest_bytes == 0) return stages;
  US_TRY(stages.add_groups(largest_bytes));
  std::vector<DenseColumns> table;
  for (const Kind& kind : stages.kinds_) table.push_back(kind.columns);
  const uint64_t table_bytes = table.size() * sizeof(DenseColumns);
  US_ASSIGN(stages.kind_table_, DeviceMemory::allocate(table_bytes));
  US_TRY(cuda_status(
      cudaMemcpy(stages.kind_table_.data(), table.data(), table_bytes, cudaMemcpyHostToDevice),
      "uploading what columns need"));
  return stages;
}

Status DenseStages::add_groups(uint64_t operand_bytes) {
  US_ASSIGN(operand_, DeviceMemory::allocate(operand_bytes));
  for (const ColumnGroup& columns : column_groups(program().width, step_)) {
    Group group;
    US_ASSIGN(group.fp8, group_launch(WeightFormat::kFp8Block128, columns));
    US_ASSIGN(group.bf16, group_launch(WeightFormat::kBf16, columns));
    groups_.push_back(group);
  }
  return {};
}

bool DenseStages::has_cache_rows(const program::QkvProjOperands& op) const {
  return op.cache != program::kNoId && machine_->cache_form(op.cache) == CacheForm::kRows;
}

const DenseColumns* DenseStages::find_kind(const program::QkvProjOperands& op) const {
  const bool has_cache = has_cache_rows(op);
  const uint32_t ring = has_cache ? program().caches[op.cache].ring_positions : 0;
  for (const Kind& kind : kinds_) {
    const DenseColumns& columns = kind.columns;
    if (columns.rope == op.rope && columns.rotary_dim == op.rotary_dim &&
        columns.ring_positions == ring && (columns.cache_rows != nullptr) == has_cache) {
      return &columns;
    }
  }
  return nullptr;
}

Status DenseStages::add_kind(const program::QkvProjOperands& op) {
  if (find_kind(op) != nullptr) return {};
  const bool has_cache = has_cache_rows(op);
  const uint64_t rotation_bytes = uint64_t{program().width} * (op.rotary_dim / 2) * sizeof(float2);
  const uint64_t row_bytes = has_cache ? uint64_t{program().width} * sizeof(uint32_t) : 0;
  Kind kind;
  US_ASSIGN(kind.memory, DeviceMemory::allocate(rotation_bytes + row_bytes));
  kind.columns.rope = op.rope;
  kind.columns.rotary_dim = op.rotary_dim;
  kind.columns.rotations = kind.memory.as<float2>();
  if (has_cache) {
    kind.columns.ring_positions = program().caches[op.cache].ring_positions;
    kind.columns.cache_rows = reinterpret_cast<uint32_t*>(kind.memory.data() + rotation_bytes);
  }
  kinds_.push_back(std::move(kind));
  return {};
}

cudaError_t DenseStages::begin_step(KernelSink& sink) const {
  if (kinds_.empty()) return cudaSuccess;
  return sink.run(DenseColumnsLaunch{step_, program().width, program().kv_page_positions,
                                     kind_table_.as<const DenseColumns>(),
                                     static_cast<uint32_t>(kinds_.size())});
}

template <class Epilogue>
cudaError_t DenseStages::launch_product(uint32_t rank, const Product& product,
                                        const Epilogue& epilogue, KernelSink& sink) const {
  const Weight& weight = machine_->weight(rank, product.weight);
  for (const Group& group : groups_) {
    DenseLaunch launch = weight.format == WeightFormat::kBf16 ? group.bf16 : group.fp8;
    DensePrepare prepare;
    static_cast<ColumnGroup&>(prepare) = launch;
    prepare.format = weight.format;
    prepare.k = weight.cols;
    prepare.num_chunks = product.num_chunks;
    prepare.rows = machine_->buffer(rank, program_, product.input);
    prepare.norm_weight = machine_->vector(rank, product.norm.weight);
    prepare.epsilon = product.norm.epsilon;
    prepare.operand = operand_.data();
    cudaError_t error = sink.run(prepare);
    if (error != cudaSuccess) return error;
    launch.rows = weight.rows;
    launch.k = weight.cols;
    launch.num_chunks = product.num_chunks;
    launch.weights = weight.data;
    launch.operand = operand_.data();
    error = sink.run(launch, epilogue);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

DenseQkv DenseStages::heads_of(uint32_t rank, const program::QkvProjOperands& op) const {
  const DenseColumns* columns = find_kind(op);
  US_CHECK(columns != nullptr, "no kind of {} rotated dimensions", op.rotary_dim);
  const uint32_t key_row = op.num_kv_heads * op.head_dim;
  const uint32_t value_row = op.num_kv_heads * op.v_head_dim;
  DenseQkv qkv;
  qkv.num_q_heads = op.num_q_heads;
  qkv.num_kv_heads = op.num_kv_heads;
  qkv.head_dim = op.head_dim;
  qkv.v_head_dim = op.v_head_dim;
  qkv.rotary_dim = op.rotary_dim;
  qkv.value_scale = op.value_scale;
  qkv.bias = machine_->vector(rank, op.bias);
  qkv.rotations = columns->rotations;
  qkv.cache_rows = columns->cache_rows;
  if (op.num_q_heads > 0) qkv.query = machine_->buffer(rank, program_, op.query);
  if (op.cache != program::kNoId) {
    const Cache cache = machine_->cache(rank, op.cache);
    qkv.keys = cache.keys;
    qkv.values = cache.values;
    qkv.key_stride = key_row;
    qkv.value_stride = value_row;
  } else if (op.num_kv_heads > 0) {  // a column's k heads, then its v heads
    qkv.keys = machine_->buffer(rank, program_, op.cache_rows);
    qkv.values = qkv.keys + key_row;
    qkv.key_stride = qkv.value_stride = key_row + value_row;
  }
  return qkv;
}

cudaError_t DenseStages::launch(uint32_t rank, const program::QkvProjOperands& op,
                                KernelSink& sink) const {
  const Product product = {op.weight, op.hidden, op.norm};
  if (!has_head_norms(op)) return launch_product(rank, product, heads_of(rank, op), sink);
  HeadRows rows;
  rows.width = program().width;
  rows.num_columns = &step_->num_columns;
  rows.sums = scratch(rank, kHeadSumScratch);
  rows.heads = heads_of(rank, op);
  rows.q_norm = machine_->vector(rank, op.q_norm.weight);
  rows.k_norm = machine_->vector(rank, op.k_norm.weight);
  rows.q_epsilon = op.q_norm.epsilon;
  rows.k_epsilon = op.k_norm.epsilon;
  const DenseStore store = {scratch(rank, kHeadSumScratch), program().weights[op.weight].rows, 0};
  const cudaError_t error = launch_product(rank, product, store, sink);
  return error == cudaSuccess ? sink.run(rows) : error;
}

cudaError_t DenseStages::join_inputs(uint32_t rank, const program::LinearOperands& op,
                                     KernelSink& sink) const {
  JoinedRows joined;
  joined.width = program().width;
  joined.num_columns = &step_->num_columns;
  joined.size = program().hidden_size;
  joined.inputs[joined.num_inputs++] = machine_->buffer(rank, program_, op.input);
  for (const program::BufferId input : op.more_inputs) {
    if (input == program::kNoId) break;
    joined.inputs[joined.num_inputs++] = machine_->buffer(rank, program_, input);
  }
  joined.output = scratch(rank, kJoinedScratch);
  return sink.run(joined);
}

cudaError_t DenseStages::launch(uint32_t rank, const program::OutProjOperands& op,
                                KernelSink& sink) const {
  const uint32_t num_chunks = rank_chunks(program());
  const DensePartials partials = {machine_->buffer(rank, program_, op.partials), rank * num_chunks};
  return launch_product(rank, {op.weight, op.input, {}, num_chunks}, partials, sink);
}

cudaError_t DenseStages::launch(uint32_t rank, const program::GateUpOperands& op,
                                KernelSink& sink) const {
  const DenseSwiglu swiglu = {machine_->buffer(rank, program_, op.output)};
  return launch_product(rank, {op.weight, op.hidden, op.norm}, swiglu, sink);
}

cudaError_t DenseStages::launch(uint32_t rank, const program::LinearOperands& op,
                                KernelSink& sink) const {
  const LinearOutput output = linear_output(*machine_, rank, program_, op, step_);
  const DenseStore store = {output.data, op.total_rows, output.first_row, output.filter};
  Product product = {op.weight, op.input, op.norm};
  if (op.more_inputs[0] != program::kNoId) {
    const cudaError_t error = join_inputs(rank, op, sink);
    if (error != cudaSuccess) return error;
    product.input = scratch_id(program(), kJoinedScratch);
  }
  return launch_product(rank, product, store, sink);
}

}  // namespace ultraspeed::cuda
