// fovea/view/dlpack.hpp - tensors as DLPack passes them between frameworks (numpy, PyTorch, JAX, ...).
#pragma once

#include <fovea/view/strided.hpp>

#include <cstdint>

FOVEA_NAMESPACE_BEGIN

/// The struct DLTensor of DLPack's ABI (all versions so far), for programs without its header; what has the
/// header's type passes that. A capsule "dltensor" points to a DLManagedTensor, which begins with one; a
/// capsule "dltensor_versioned" to a DLManagedTensorVersioned, which says of which version, and flags.
struct dl_device {
  std::int32_t device_type, device_id;
};
struct dl_data_type {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct dl_tensor {
  void* data;
  dl_device device;
  std::int32_t ndim;
  dl_data_type dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

template <class X>
concept dl_tensor_like = requires(const X& x) {
  static_cast<const void*>(x.data);
  static_cast<std::int32_t>(x.device.device_type);
  x.ndim, x.dtype.code, x.dtype.bits, x.dtype.lanes;
  static_cast<const std::int64_t*>(x.shape), static_cast<const std::int64_t*>(x.strides);
  static_cast<std::uint64_t>(x.byte_offset);
};

template <class X>
concept dl_versioned_like = requires(const X& x) {
  static_cast<std::uint32_t>(x.version.major);
  static_cast<std::uint64_t>(x.flags);
  requires dl_tensor_like<decltype(x.dl_tensor)>;
};

struct bf16;
struct fp16;

/// How DLPack names elements: bits, and a code for their kind.
template <class E>
constexpr dl_data_type dl_type_of() noexcept {
  constexpr std::uint8_t integer = 0, natural = 1, real = 2, bfloat = 4, boolean = 6, bits = 8 * sizeof(E);
  if constexpr (std::is_same_v<E, bool>)
    return {boolean, bits, 1};
  else if constexpr (std::is_integral_v<E>)
    return {std::is_signed_v<E> ? integer : natural, bits, 1};
  else if constexpr (std::is_same_v<E, bf16> || (sizeof(E) == 2 && std::numeric_limits<E>::digits == 8))
    return {bfloat, bits, 1};
  else {
    static_assert(
        std::is_floating_point_v<E> || std::is_same_v<E, fp16> || std::numeric_limits<E>::digits == 11,
        "fovea: a DLPack tensor is read as integers, bool, float, double, bf16 or fp16");
    return {real, bits, 1};
  }
}

/// dlpack<E>(t) is a DLPack tensor of rank 4, batch x heads x tokens x dim, and dlpack<E, 2>(t) one of rank
/// 2, tokens x (heads * dim), with elements of type E (const E: they are only read):
///   attend.into(fovea::dlpack<float>(o), fovea::dlpack<const float>(q), fovea::dlpack<const float>(k), ...)
/// Any strides; none (a null pointer) is contiguous, the last index innermost. Of t the pointers are kept:
/// its data, shape and strides outlive the call.
///
/// A call throws std::invalid_argument, naming the argument and both values, where t is on a device whose
/// memory the CPU does not read, holds elements of another type, has another rank, no shape, or begins
/// between two elements; where t is a DLManagedTensorVersioned, also where its major version is not 1, and
/// where E is not const but its flags say that it is read-only. std::length_error where its strides reach
/// further than can be counted. What attend(q, k, v) returns for such a q is a tensor, of batch 1 where q has
/// rank 2.
template <class E, std::size_t Rank = 4>
  requires rank_of_view<Rank>
class dlpack {
 public:
  template <dl_tensor_like X>
  explicit dlpack(const X& x) noexcept
      : t_{const_cast<void*>(static_cast<const void*>(x.data)),
           {static_cast<std::int32_t>(x.device.device_type), static_cast<std::int32_t>(x.device.device_id)},
           static_cast<std::int32_t>(x.ndim),
           {static_cast<std::uint8_t>(x.dtype.code), static_cast<std::uint8_t>(x.dtype.bits),
            static_cast<std::uint16_t>(x.dtype.lanes)},
           const_cast<std::int64_t*>(static_cast<const std::int64_t*>(x.shape)),
           const_cast<std::int64_t*>(static_cast<const std::int64_t*>(x.strides)),
           x.byte_offset} {}
  template <dl_versioned_like X>
  explicit dlpack(const X& x) noexcept : t_{} {
    major_ = static_cast<std::uint32_t>(x.version.major), flags_ = static_cast<std::uint64_t>(x.flags);
    if (major_ == known_version) t_ = dlpack(x.dl_tensor).t_;  // of another version it may lie elsewhere
  }

  const dl_tensor& tensor() const noexcept { return t_; }

  void check(const char* name) const {
    if (major_ != known_version)
      reject(name, " is a DLPack tensor of version ", major_, ", not ", known_version);
    if (constexpr std::uint64_t read_only = 1; !std::is_const_v<E> && (flags_ & read_only) != 0)
      reject(name, " is given as writable, but its DLPack flags are ", flags_, ", of which ", read_only,
             " says that it is read-only");
    constexpr std::int32_t cpu = 1, cuda_host = 3,
                           rocm_host = 11;  // the latter two: pinned memory of the CPU
    const std::int32_t device = t_.device.device_type;
    if (device != cpu && device != cuda_host && device != rocm_host)
      reject(name, " is on a device of DLPack's type ", device, ", not in the CPU's memory, which is ", cpu);
    constexpr dl_data_type type = dl_type_of<std::remove_const_t<E>>();
    if (t_.dtype.code != type.code || t_.dtype.bits != type.bits || t_.dtype.lanes != type.lanes)
      reject(name, " has elements of DLPack's type (code ", t_.dtype.code, ", ", t_.dtype.bits, " bits, ",
             t_.dtype.lanes, " lanes), not (code ", type.code, ", ", type.bits, " bits, ", type.lanes,
             " lanes)");
    if (t_.ndim != static_cast<std::int32_t>(Rank)) reject(name, " has ", t_.ndim, " dimensions, not ", Rank);
    if (t_.shape == nullptr) reject(name, " has ", Rank, " dimensions but a null pointer for its shape");
    if (t_.byte_offset > static_cast<std::uint64_t>(std::numeric_limits<index_type>::max()))
      reject(name, " begins ", t_.byte_offset, " bytes behind its pointer, further than can be counted");
    if (const auto past = first_byte() % alignof(E); t_.data != nullptr && past != 0)
      reject(name, " begins ", past, " bytes past a multiple of ", alignof(E),
             ", the alignment of its elements");
  }

  sequences<E> view(index_type heads, const char* name) const {
    check(name);
    const auto index = [](auto n) { return static_cast<index_type>(n); };
    std::array<index_type, Rank> sizes{}, strides{};
    index_type stride = 1;
    for (std::size_t i = Rank; i-- > 0;) {
      sizes[i] = index(t_.shape[i]);
      if (sizes[i] < 0) reject(name, " has ", sizes[i], " for its size ", i, ", which is below 0");
      strides[i] = sizes[i] < 2 ? 0 : t_.strides != nullptr ? index(t_.strides[i]) : stride;
      if (!countable(sizes[i], strides[i], sizeof(E), 4))
        reject_length(name, " has ", sizes[i], " times a stride of ", strides[i], " elements of ", sizeof(E),
                      " bytes, which is more than can be counted");
      if (t_.strides == nullptr) stride = size_product(name, stride, std::max<index_type>(sizes[i], 1));
    }
    E* first = t_.data == nullptr ? nullptr : reinterpret_cast<E*>(first_byte());
    return strided_sequences(first, sizes, strides, heads, name);
  }

 private:
  std::uintptr_t first_byte() const noexcept {
    return reinterpret_cast<std::uintptr_t>(t_.data) + static_cast<std::uintptr_t>(t_.byte_offset);
  }

  static constexpr std::uint32_t known_version = 1;
  dl_tensor t_;
  std::uint32_t major_ = known_version;
  std::uint64_t flags_ = 0;
};

template <class E, std::size_t Rank>
inline constexpr bool is_view<dlpack<E, Rank>> = true;

template <class E, std::size_t Rank>
struct view_traits<dlpack<E, Rank>> {
  using element = E;
  static constexpr bool tells_heads = Rank == 4;
  static sequences<E> view(const dlpack<E, Rank>& x, index_type heads, const char* name) {
    return x.view(heads, name);
  }
  /// (Calls make what they return before they look at q: its memory is not trusted before it is checked.)
  template <class T>
  static tensor<T> make_like(const dlpack<E, Rank>& x, index_type heads, index_type dim) {
    const auto sizes = x.view(any_heads, "q").all;
    return tensor<T>(sizes.batch, heads, sizes.tokens, dim);
  }
};

FOVEA_NAMESPACE_END
