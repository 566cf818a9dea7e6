// fovea/compiled/arguments.hpp - what the C header describes, as views, lists and executors of the library.
#pragma once

#include <fovea/compiled/fovea.h>
#include <fovea/element/bf16.hpp>
#include <fovea/element/f32.hpp>
#include <fovea/element/f64.hpp>
#include <fovea/element/fp16.hpp>
#include <fovea/element/int8.hpp>
#include <fovea/executor/threads.hpp>
#include <fovea/list_view.hpp>
#include <fovea/view/ragged.hpp>
#include <fovea/view/tensor.hpp>

#include <cstring>
#include <exception>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// The fovea_element of E.
template <class E>
inline constexpr std::int32_t element_code = FOVEA_NO_ELEMENT;
template <>
inline constexpr std::int32_t element_code<float> = FOVEA_F32;
template <>
inline constexpr std::int32_t element_code<double> = FOVEA_F64;
template <>
inline constexpr std::int32_t element_code<bf16> = FOVEA_BF16;
template <>
inline constexpr std::int32_t element_code<fp16> = FOVEA_F16;
template <>
inline constexpr std::int32_t element_code<std::int8_t> = FOVEA_I8;
template <>
inline constexpr std::int32_t element_code<std::uint8_t> = FOVEA_U8;
template <>
inline constexpr std::int32_t element_code<std::int32_t> = FOVEA_I32;
template <>
inline constexpr std::int32_t element_code<std::int64_t> = FOVEA_I64;
template <>
inline constexpr std::int32_t element_code<std::uint64_t> = FOVEA_U64;

/// Its name, for errors.
inline std::string name_of_element(std::int32_t code) {
  constexpr const char* names[] = {"no element", "F32", "F64", "BF16", "F16",
                                   "I8",         "U8",  "I32", "I64",  "U64"};
  if (code < 0 || code > FOVEA_U64) return "element " + std::to_string(code);
  return names[code];
}

/// A structure as its caller's header has it: fields that are not given are 0. Throws where it is larger than
/// the library's own.
template <class S>
S whole(const S* given, const char* name) {
  if (given == nullptr) reject(name, " is a null pointer");
  std::size_t size = 0;
  std::memcpy(&size, given, sizeof size);
  if (size < sizeof size || size > sizeof(S))
    reject(name, " has a size of ", size, " bytes, not within ", sizeof size, " and ", sizeof(S),
           ": it is made by fovea_..._init, fovea_..._of or by sizeof, with the header of the library");
  S all{};
  std::memcpy(&all, given, size);
  return all;
}

/// Entry i of an array of structures, each as large as its first one says (one that says more would be read
/// past the array); entries before it were asked for.
template <class S>
S entry_of(const S* first, std::int64_t i, const char* name) {
  std::size_t size = 0, own = 0;
  if (first == nullptr) reject(name, " is a null pointer");
  std::memcpy(&size, first, sizeof size);
  const auto* const at = reinterpret_cast<const char*>(first) + i * static_cast<std::int64_t>(size);
  std::memcpy(&own, at, sizeof own);
  if (own != size) reject("entry ", i, " of ", name, " has a size of ", own, " bytes, the first ", size);
  return whole(reinterpret_cast<const S*>(at), name);
}

/// The same, as it is where it has the size of the library's own, else in `room`.
template <class S>
const S& entry_at(const S* first, std::int64_t i, const char* name, S& room) {
  std::size_t size = 0;
  if (first != nullptr) std::memcpy(&size, first, sizeof size);
  if (size == sizeof(S) && first[i].size_of_this == size) return first[i];
  return room = entry_of(first, i, name);
}

inline void check_count(const char* name, std::int64_t count, std::int64_t most) {
  if (count < 0 || count > most) reject(name, " has ", count, " entries, not within 0 and ", most);
}

inline index_type bytes_of_element(std::int32_t code) noexcept {
  switch (code) {
    case FOVEA_F64:
    case FOVEA_I64:
    case FOVEA_U64:
      return 8;
    case FOVEA_BF16:
    case FOVEA_F16:
      return 2;
    case FOVEA_I8:
    case FOVEA_U8:
      return 1;
    default:
      return 4;
  }
}

/// The stride of an axis, whose `size` elements lie where that can be counted; of one element it means
/// nothing.
inline index_type countable_stride(const char* name, std::int64_t size, std::int64_t stride,
                                   index_type bytes) {
  if (countable(size, stride, bytes, 4)) return stride;
  if (size < 2) return 0;  // below 0: what makes a view of it says so
  reject_length(name, " has ", size, " times a stride of ", stride, " elements of ", bytes,
                " bytes, which is more than can be counted");
}

/// A tensor of E; or an error that says what is given.
template <class E>
tensor_view<E> view_as(const fovea_tensor& x, const char* name) {
  if (x.element != element_code<std::remove_const_t<E>>)
    reject(name, " has elements ", name_of_element(x.element), ", not ",
           name_of_element(element_code<std::remove_const_t<E>>));
  const auto stride = [&](std::int64_t size, std::int64_t given) {
    return countable_stride(name, size, given, sizeof(E));
  };
  return {static_cast<E*>(x.data),
          x.batch,
          x.heads,
          x.tokens,
          x.dim,
          stride(x.batch, x.batch_stride),
          stride(x.heads, x.head_stride),
          stride(x.tokens, x.token_stride),
          stride(x.dim, x.dim_stride)};
}

/// f(tensor_view<const E>) for the tensor's element, one of float, double, bf16 and fp16.
template <class F>
void with_real(const fovea_tensor& x, const char* name, const F& f) {
  switch (x.element) {
    case FOVEA_F32:
      return f(view_as<const float>(x, name));
    case FOVEA_F64:
      return f(view_as<const double>(x, name));
    case FOVEA_BF16:
      return f(view_as<const bf16>(x, name));
    case FOVEA_F16:
      return f(view_as<const fp16>(x, name));
    default:
      reject(name, " has elements ", name_of_element(x.element), ", not F32, F64, BF16 or F16");
  }
}

inline void check_list(const fovea_list& list, const char* name) {
  if (list.count < 0) reject(name, " has ", list.count, " entries, fewer than none");
  if (list.count > 1)
    static_cast<void>(countable_stride(name, list.count, list.stride, bytes_of_element(list.element)));
  if (list.data == nullptr && list.count > 0) reject(name, " is a null pointer");
}
/// Of one number a stride means nothing.
inline index_type stride_of(const fovea_list& list) noexcept { return list.count > 1 ? list.stride : 1; }
/// f(first, count, stride) for a list of integers.
template <class F>
auto with_integers(const fovea_list& list, const char* name, const F& f) {
  check_list(list, name);
  switch (list.element) {
    case FOVEA_I32:
      return f(static_cast<const std::int32_t*>(list.data));
    case FOVEA_I64:
      return f(static_cast<const std::int64_t*>(list.data));
    default:
      reject(name, " has elements ", name_of_element(list.element), ", not I32 or I64");
  }
}
inline list_view<index_type> integers(const fovea_list& list, const char* name) {
  return with_integers(list, name, [&](const auto* first) {
    return list_view<index_type>(first, list.count, stride_of(list));
  });
}
inline list_view<double> numbers(const fovea_list& list, const char* name) {
  check_list(list, name);
  switch (list.element) {
    case FOVEA_F32:
      return {static_cast<const float*>(list.data), list.count, stride_of(list)};
    case FOVEA_F64:
      return {static_cast<const double*>(list.data), list.count, stride_of(list)};
    default:
      reject(name, " has elements ", name_of_element(list.element), ", not F32 or F64");
  }
}
/// Numbers of T one after another, to be written; none where the list is not given.
template <class T>
std::span<T> written(const fovea_list& list, const char* name) {
  check_list(list, name);
  if (list.data == nullptr) return {};
  if (list.element != element_code<T> || (list.stride != 1 && list.count > 1))
    reject(name, " has elements ", name_of_element(list.element), " ", list.stride, " apart, not ",
           name_of_element(element_code<T>), " 1 apart");
  return {static_cast<T*>(const_cast<void*>(list.data)), static_cast<std::size_t>(list.count)};
}

/// The library's threads.
struct own_threads {
  threads pool;
};

/// Whoever a call names to do its work.
class call_executor {
 public:
  explicit call_executor(const fovea_call& call) {
    if (call.threads != nullptr && call.executor != nullptr)
      reject("the call has both threads and an executor; one of them is enough");
    if (call.threads != nullptr) pool_ = &reinterpret_cast<const own_threads*>(call.threads)->pool;
    if (call.executor == nullptr) return;
    given_ = whole(call.executor, "executor");
    if (given_.for_each == nullptr) reject("executor's for_each is a null pointer");
  }
  index_type workers() const noexcept {
    return pool_ != nullptr ? pool_->workers() : given_.for_each != nullptr ? given_.workers : 1;
  }
  void for_each(index_type count, task_ref task) const {
    if (pool_ != nullptr) return pool_->for_each(count, task);
    if (given_.for_each == nullptr) {
      for (index_type i = 0; i < count; ++i) task(i, 0);
      return;
    }
    given_.for_each(
        given_.user, count,
        [](void* context, std::int64_t i, std::int64_t worker) {
          (*static_cast<const task_ref*>(context))(i, worker);
        },
        &task);
  }

 private:
  const fovea::threads* pool_ = nullptr;
  fovea_executor given_{};
};

/// work(), and what went wrong as a status and a sentence.
template <class F>
std::int32_t guarded(fovea_error* error, const F& work) noexcept {
  const auto failed = [&](std::int32_t status, const char* text) {
    if (error != nullptr) {
      error->status = status;
      std::strncpy(error->message, text, sizeof error->message - 1);
      error->message[sizeof error->message - 1] = 0;
    }
    return status;
  };
  try {
    work();
    return failed(FOVEA_OK, "");
  } catch (const std::invalid_argument& e) {
    return failed(FOVEA_INVALID_ARGUMENT, e.what());
  } catch (const std::length_error& e) {
    return failed(FOVEA_TOO_LARGE, e.what());
  } catch (const std::bad_alloc&) {
    return failed(FOVEA_OUT_OF_MEMORY, "fovea: no memory left");
  } catch (const std::exception& e) {
    return failed(FOVEA_FAILED, e.what());
  } catch (...) {
    return failed(FOVEA_FAILED, "fovea: an exception of an unknown type");
  }
}

/// A tensor, or sequences packed in it.
template <class E>
struct packed {
  tensor_view<E> all;
  const list_view<index_type>* offsets = nullptr;
};

}  // namespace described

template <class E>
inline constexpr bool is_view<described::packed<E>> = true;

template <class E>
struct view_traits<described::packed<E>> {
  using element = E;
  static sequences<E> view(const described::packed<E>& x, index_type heads, const char* name) {
    sequences<E> rows = view_traits<tensor_view<E>>::view(x.all, heads, name);
    if (x.offsets == nullptr) return rows;
    if (x.all.batch != 1) reject(name, " packs sequences into a batch of ", x.all.batch, ", not 1");
    check_offsets(name, *x.offsets, {}, x.all.tokens);
    rows.offsets = x.offsets, rows.count = x.offsets->size() - 1;
    return rows;
  }
};

FOVEA_NAMESPACE_END
