// Arrays of any library as fovea.h sees them: a pointer, sizes and strides; nothing is copied.
//
// In this order: what has DLPack's exchange table (PyTorch), tensors with data_ptr (older ones), the buffer protocol (numpy),
// __dlpack__; lists of numbers by way of numpy.
#pragma once

#include <fovea/compiled/fovea.h>
#include <pybind11/pybind11.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

namespace native {

namespace py = pybind11;

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::string text = "fovea: ";
  ((text += parts), ...);
  throw py::value_error(text);
}

/// The name of a fovea_element, as numpy and PyTorch have it; and back, 0 for what is none.
const char* name_of(std::int32_t element);
std::int32_t element_named(const std::string& name);
/// The element of a numpy or torch dtype, or its name; `argument`: for errors.
std::int32_t element_of(py::handle dtype, const char* argument);

/// What the buffer protocol shows; it is given back with this, whatever is thrown before.
struct shown_buffer {
  shown_buffer() = default;
  shown_buffer(shown_buffer&& other) noexcept : view(std::exchange(other.view, {})) {}
  ~shown_buffer() {
    if (view.obj != nullptr) PyBuffer_Release(&view);
  }
  Py_buffer view{};
};

/// A view of an array; the array, or what shows it, is kept alive with it.
struct array {
  static constexpr int most = 4;
  void* data = nullptr;
  std::int32_t element = 0;
  int dims = 0;
  bool writable = true;
  std::array<std::int64_t, most> sizes{}, strides{};
  const char* name = "";

  array(py::handle x, const char* argument);
  array(array&&) noexcept = default;

  /// As batch x heads x tokens x dim: sizes in front that it lacks are 1.
  fovea_tensor tensor() const;
  /// A number a row: as many sizes as `dims`, less the last one.
  fovea_tensor rows(const array& of) const;
  fovea_list list() const;
  /// Refuses what has not 2 to 4 sizes; what is read-only, or a list, whose copy would be written; or both.
  const array& as_tokens() const;
  const array& as_written() const;
  const array& as_result() const { return as_written().as_tokens(); }

 private:
  void read_buffer(py::handle x);
  void read_attributes(py::handle x);
  bool read_exchanged(py::handle x);
  bool is_negated(py::handle x) const;
  void read_copy(py::handle x);
  void set_dims(int count);
  py::object kept_;
  shown_buffer buffer_;
};

/// A list of numbers: an array, or what numpy makes one of; real numbers for integers are refused, not cut.
array numbers(py::handle x, const char* argument, bool integers = false);

/// An empty array of the same library as `like`: of its elements, or of others.
py::object empty_like(py::handle like, const array& of, const std::vector<std::int64_t>& sizes,
                      std::int32_t element);

}  // namespace native
