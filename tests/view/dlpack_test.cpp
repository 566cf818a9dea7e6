// DLPack's tensors are views once their device, type, rank and strides are checked.
#include "../support/refusal.hpp"
#include "elsewhere.hpp"

namespace {
namespace dlpacks {

using fovea::index_type;
using fovea_test::expect_refused;
using fovea_test::expect_same_bits;
using fovea_test::expect_same_places;
using fovea_test::spaced_elements;

/// As DLPack's own header declares it: enumerators where the library has numbers.
enum DLDeviceType { kDLCPU = 1, kDLCUDA = 2, kDLCUDAHost = 3 };
enum DLDataTypeCode { kDLInt = 0, kDLUInt = 1, kDLFloat = 2, kDLBfloat = 4, kDLBool = 6 };
struct DLDevice {
  DLDeviceType device_type;
  std::int32_t device_id;
};
struct DLDataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

// The ABI: a struct of the header is one of the library's.
static_assert(sizeof(DLTensor) == sizeof(fovea::dl_tensor));
static_assert(offsetof(DLTensor, device) == offsetof(fovea::dl_tensor, device));
static_assert(offsetof(DLTensor, ndim) == offsetof(fovea::dl_tensor, ndim));
static_assert(offsetof(DLTensor, dtype) == offsetof(fovea::dl_tensor, dtype));
static_assert(offsetof(DLTensor, shape) == offsetof(fovea::dl_tensor, shape));
static_assert(offsetof(DLTensor, strides) == offsetof(fovea::dl_tensor, strides));
static_assert(offsetof(DLTensor, byte_offset) == offsetof(fovea::dl_tensor, byte_offset));

template <class E>
constexpr bool is_named(int code, int bits) {
  const auto type = fovea::dl_type_of<E>();
  return type.code == code && type.bits == bits && type.lanes == 1;
}
static_assert(is_named<float>(kDLFloat, 32) && is_named<double>(kDLFloat, 64));
static_assert(is_named<fovea::fp16>(kDLFloat, 16) && is_named<Eigen::half>(kDLFloat, 16));
static_assert(is_named<fovea::bf16>(kDLBfloat, 16) && is_named<Eigen::bfloat16>(kDLBfloat, 16));
static_assert(is_named<bool>(kDLBool, 8) && is_named<std::uint8_t>(kDLUInt, 8) && is_named<int>(kDLInt, 32));

/// A tensor of 2 x 4 x 5 x 3 floats.
struct exported {
  std::int64_t shape[4] = {2, 4, 5, 3}, strides[4] = {60, 15, 3, 1};
  DLTensor tensor;
  explicit exported(float* data) : tensor{data, {kDLCPU, 0}, 4, {kDLFloat, 32, 1}, shape, strides, 0} {}
};

TEST(dlpack, strides_offsets_and_none) {
  spaced_elements elements;
  const auto expected = elements.view(300, 3, 40, 2);
  exported x(expected.data - 5);
  x.tensor.byte_offset = 5 * sizeof(float);
  const std::int64_t apart[4] = {300, 3, 40, 2};
  std::copy(apart, apart + 4, x.strides);
  const fovea::dlpack<float> view(x.tensor);
  expect_same_places(view, expected);

  spaced_elements others;
  const auto contiguous = others.view(60, 15, 3, 1);
  exported y(contiguous.data);
  y.tensor.strides = nullptr;
  y.tensor.device.device_type = kDLCUDAHost;  // pinned, read as any other
  const fovea::dlpack<const float> read(y.tensor);
  expect_same_places(read, fovea::tensor_view<const float>(contiguous));

  const fovea::attention<float, 4> attend;
  const fovea::tensor<float> o = attend(view, read, read);
  expect_same_bits(o, attend(expected, contiguous, contiguous));
  std::vector<float> written(120, -1.0f);
  const exported out(written.data());
  attend.into(fovea::dlpack<float>(out.tensor), view, read, read);
  expect_same_bits(o, written);
}

TEST(dlpack, a_matrix_and_bits) {
  std::vector<fovea::bf16> k(5 * 12, fovea::bf16(0.5f));
  std::int64_t shape[2] = {5, 12};
  const fovea::dl_tensor matrix{k.data(), {kDLCPU, 0}, 2, {kDLBfloat, 16, 1}, shape, nullptr, 0};
  const fovea::dlpack<const fovea::bf16, 2> x(matrix);
  const Eigen::MatrixXf q = Eigen::MatrixXf::Ones(2, 12);
  const Eigen::MatrixXf o = fovea::attention<float, 4>()(q, x, x);
  EXPECT_EQ(o, Eigen::MatrixXf::Constant(2, 12, 0.5f));

  bool seen[2 * 5] = {true, false, true, true, true, false, false, false, false, true};
  std::int64_t cells[2] = {2, 5};
  const fovea::dl_tensor mask{seen, {kDLCPU, 0}, 2, {kDLBool, 8, 1}, cells, nullptr, 0};
  const fovea::attention<float, 4> attend;
  EXPECT_EQ(attend(q, x, x, fovea::boolean_mask(fovea::dlpack<const bool, 2>(mask))), o);
}

TEST(dlpack, what_does_not_fit) {
  std::vector<float> memory(120);
  const exported good(memory.data());
  const fovea::attention<float, 4> attend;
  const fovea::dlpack<const float> fine(good.tensor);
  const auto refused = [&](const auto& spoil, const std::string& sentence) {
    exported bad(memory.data());
    spoil(bad);
    const fovea::dlpack<const float> x(bad.tensor);
    expect_refused([&] { attend(x, fine, fine); }, "q " + sentence);
    expect_refused([&] { attend(fine, x, fine); }, "k " + sentence);
    expect_refused([&] { attend(fine, fine, x); }, "v " + sentence);
  };
  refused([](exported& x) { x.tensor.device.device_type = kDLCUDA; },
          "is on a device of DLPack's type 2, not in the CPU's memory, which is 1");
  refused(
      [](exported& x) {
        x.tensor.dtype = {kDLFloat, 64, 1};
      },
      "has elements of DLPack's type (code 2, 64 bits, 1 lanes), not (code 2, 32 bits, 1 lanes)");
  refused(
      [](exported& x) {
        x.tensor.dtype = {kDLInt, 32, 1};
      },
      "has elements of DLPack's type (code 0, 32 bits, 1 lanes), not (code 2, 32 bits, 1 lanes)");
  refused([](exported& x) { x.tensor.dtype.lanes = 4; },
          "has elements of DLPack's type (code 2, 32 bits, 4 lanes), not (code 2, 32 bits, 1 lanes)");
  refused([](exported& x) { x.tensor.ndim = 3; }, "has 3 dimensions, not 4");
  refused([](exported& x) { x.tensor.shape = nullptr; }, "has 4 dimensions but a null pointer for its shape");
  refused([](exported& x) { x.tensor.byte_offset = 2; },
          "begins 2 bytes past a multiple of 4, the alignment of its elements");
  refused([](exported& x) { x.tensor.data = nullptr; }, "is a null pointer");
  refused([](exported& x) { x.shape[2] = -5; }, "has -5 for its size 2, which is below 0");
  refused([](exported& x) { x.shape[1] = 2; }, "has 2 heads, not 4");

  exported far(memory.data());
  far.strides[0] = std::int64_t(1) << 60;
  const fovea::dlpack<const float> x(far.tensor);
  EXPECT_THROW(attend(fine, x, fine), std::length_error);
  exported folded(memory.data());
  folded.strides[2] = 0;
  std::vector<float> other(120);
  const exported input(other.data());
  expect_refused(
      [&] {
        const fovea::dlpack<const float> q(input.tensor);
        attend.into(fovea::dlpack<float>(folded.tensor), q, q, q);
      },
      {"5 tokens with a stride of 0"});
}

/// As DLPack 1.x declares it.
struct DLPackVersion {
  std::uint32_t major, minor;
};
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned*);
  std::uint64_t flags;
  DLTensor dl_tensor;
};

TEST(dlpack, versions_and_flags) {
  std::vector<float> memory(120, 0.25f), written(120, -1.0f);
  const exported in(memory.data()), out(written.data());
  constexpr std::uint64_t read_only = 1, copied = 2;
  DLManagedTensorVersioned q{{1, 1}, nullptr, nullptr, read_only | copied, in.tensor},
      o{{1, 0}, nullptr, nullptr, copied, out.tensor};
  const fovea::attention<float, 4> attend;
  const fovea::dlpack<const float> read(q);
  attend.into(fovea::dlpack<float>(o), read, read, read);
  EXPECT_EQ(written, memory);

  written.assign(120, -1.0f), o.flags = read_only;
  expect_refused([&] { attend.into(fovea::dlpack<float>(o), read, read, read); },
                 {"o is given as writable, but its DLPack flags are 1", "read-only"});
  o.flags = 0, o.version.major = 2, o.dl_tensor.shape = nullptr;
  expect_refused([&] { attend.into(fovea::dlpack<float>(o), read, read, read); },
                 {"o is a DLPack tensor of version 2, not 1"});
  EXPECT_EQ(written, std::vector<float>(120, -1.0f));
}

TEST(dlpack, rows_backwards_and_none) {
  spaced_elements elements;
  const auto forward = elements.view(60, 15, 3, 1);
  const fovea::tensor_view<float> backward{forward.data + 119, 2, 4, 5, 3, -60, -15, -3, -1};
  exported x(forward.data + 119);
  for (auto& stride : x.strides) stride = -stride;
  const fovea::dlpack<float> view(x.tensor);
  expect_same_places(view, backward);
  const fovea::attention<float, 4> attend;
  const exported plain(forward.data);
  const fovea::dlpack<const float> keys(plain.tensor);
  expect_same_bits(attend(view, keys, keys), attend(backward, forward, forward));

  // No tokens, and no memory: results of none.
  exported none(nullptr);
  none.shape[2] = 0;
  const fovea::dlpack<const float> empty(none.tensor);
  EXPECT_EQ(attend(empty, keys, keys).size(), 0);
  const fovea::tensor<float> o = attend(keys, empty, empty);  // no key: 0
  EXPECT_EQ(std::vector<float>(o.data(), o.data() + o.size()), std::vector<float>(120, 0.0f));
}

}  // namespace dlpacks
}  // namespace
