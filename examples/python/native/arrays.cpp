// See arrays.hpp.
#include "arrays.hpp"

#include "values.hpp"

#include <unordered_map>

namespace native {
namespace {

constexpr const char* names[] = {"",     "float32", "float64", "bfloat16", "float16",
                                 "int8", "uint8",   "int32",   "int64",    "uint64"};

py::module_& numpy() {
  static auto* const module = new py::module_(py::module_::import("numpy"));  // lives as long as the process
  return *module;
}

// DLPack (Apache-2.0) 1.3, as its ABI says: what of it is read here.
struct dl_tensor {
  void* data;
  std::int32_t device_type, device_id, ndim;
  std::uint8_t code, bits;
  std::uint16_t lanes;
  std::int64_t *shape, *strides;
  std::uint64_t byte_offset;
};
struct dl_exchange {
  std::uint32_t major, minor;
  dl_exchange* older;
  void *allocate, *managed_from, *managed_to;
  int (*tensor_from)(void* object, dl_tensor* out);
};

/// The table of a type, if it has one; looked up once a type.
const dl_exchange* exchange_of(PyTypeObject* type) {
  static std::unordered_map<PyTypeObject*, const dl_exchange*> known;
  const auto found = known.find(type);
  if (found != known.end()) return found->second;
  const dl_exchange* table = nullptr;
  const py::handle of(reinterpret_cast<PyObject*>(type));
  if (py::hasattr(of, "__dlpack_c_exchange_api__")) {
    const py::object capsule = of.attr("__dlpack_c_exchange_api__");
    table = static_cast<const dl_exchange*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (table == nullptr) PyErr_Clear();
    while (table != nullptr && table->major > 1) table = table->older;
    if (table != nullptr && (table->major < 1 || table->tensor_from == nullptr)) table = nullptr;
  }
  Py_INCREF(type);  // so that no other type takes its address
  return known[type] = table;
}

std::int32_t element_of_dlpack(const dl_tensor& x) {
  constexpr int integer = 0, natural = 1, real = 2, brain = 4, truth = 6;
  if (x.lanes != 1) return 0;
  const auto is = [&](int code, int bits) { return x.code == code && x.bits == bits; };
  if (is(real, 32)) return FOVEA_F32;
  if (is(real, 64)) return FOVEA_F64;
  if (is(brain, 16)) return FOVEA_BF16;
  if (is(real, 16)) return FOVEA_F16;
  if (is(integer, 8)) return FOVEA_I8;
  if (is(natural, 8) || is(truth, 8)) return FOVEA_U8;
  if (is(integer, 32)) return FOVEA_I32;
  if (is(integer, 64)) return FOVEA_I64;
  return is(natural, 64) ? FOVEA_U64 : 0;
}

std::int32_t element_of_format(const Py_buffer& x) {
  const char* format = x.format == nullptr ? "B" : x.format;
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  if (format[0] == 0 || format[1] != 0) return 0;
  const auto whole = [&](std::int32_t of_4, std::int32_t of_8) {
    return x.itemsize == 4 ? of_4 : x.itemsize == 8 ? of_8 : 0;
  };
  switch (*format) {
    case 'f':
      return FOVEA_F32;
    case 'd':
      return FOVEA_F64;
    case 'e':
      return FOVEA_F16;
    case 'b':
      return FOVEA_I8;
    case '?':
    case 'B':
      return FOVEA_U8;
    case 'i':
    case 'l':
    case 'q':
      return whole(FOVEA_I32, FOVEA_I64);
    case 'I':
    case 'L':
    case 'Q':
      return whole(0, FOVEA_U64);
    default:
      return 0;
  }
}

std::string text_of(py::handle x) { return py::cast<std::string>(py::str(x)); }

}  // namespace

const char* name_of(std::int32_t element) { return names[element]; }

std::int32_t element_named(const std::string& name) {
  const std::string plain = name.rfind("torch.", 0) == 0 ? name.substr(6) : name;
  if (plain == "bool") return FOVEA_U8;
  for (std::int32_t i = 1; i <= FOVEA_U64; ++i)
    if (plain == names[i]) return i;
  return 0;
}

std::int32_t element_of(py::handle dtype, const char* argument) {
  const std::string name = text_of(py::hasattr(dtype, "name") ? py::object(dtype.attr("name"))
                                                              : py::reinterpret_borrow<py::object>(dtype));
  const std::int32_t element = element_named(name);
  if (element == 0)
    refuse(argument, " has elements ", name,
           ", not float32, float64, bfloat16, float16, int8, uint8, bool, int32, int64 or uint64");
  return element;
}

array::array(py::handle x, const char* argument) : name(argument) {
  if (read_exchanged(x)) {
    if (is_negated(x)) read_copy(x.attr("resolve_neg")());
    return;
  }
  if (PyObject_CheckBuffer(x.ptr())) {
    read_buffer(x);
    return;
  }
  if (py::hasattr(x, "data_ptr") && py::hasattr(x, "stride")) {
    read_attributes(x);
    if (is_negated(x)) read_copy(x.attr("resolve_neg")());
    return;
  }
  if (py::hasattr(x, "__dlpack__")) {
    read_buffer(numpy().attr("from_dlpack")(x));
    return;
  }
  read_buffer(numpy().attr("asarray")(x));
  writable = false;  // a copy
}

/// Whether memory holds the numbers of a tensor of PyTorch with the other sign: an imaginary part of a
/// conjugate, whose elements lie 2 apart at least. (Others are not asked, which takes 60 ns.)
bool array::is_negated(py::handle x) const {
  for (int i = 0; i < dims; ++i)
    if (sizes[std::size_t(i)] > 1 && strides[std::size_t(i)] == 1) return false;
  return py::hasattr(x, "is_neg") && py::cast<bool>(x.attr("is_neg")());
}

void array::read_copy(py::handle x) {
  if (!read_exchanged(x)) read_attributes(x);
  writable = false;
}

void array::set_dims(int count) {
  if (count < 1 || count > most) refuse(name, " has ", std::to_string(count), " dimensions, not 1 to 4");
  dims = count;
}

bool array::read_exchanged(py::handle x) {
  const dl_exchange* const table = exchange_of(Py_TYPE(x.ptr()));
  if (table == nullptr) return false;
  dl_tensor view{};
  if (table->tensor_from(x.ptr(), &view) != 0) {
    PyErr_Clear();
    return false;  // one that needs its gradient: read by its attributes
  }
  constexpr int cpu = 1;
  if (view.device_type != cpu)
    refuse(name, " lies on a device of DLPack's type ", std::to_string(view.device_type), ", not on the cpu");
  element = element_of_dlpack(view);
  if (element == 0) refuse(name, " has elements that are none of fovea's");
  set_dims(view.ndim);
  data = static_cast<char*>(view.data) + view.byte_offset;
  std::int64_t dense = 1;
  for (int i = dims; i-- > 0; dense *= view.shape[i])
    sizes[std::size_t(i)] = view.shape[i],
    strides[std::size_t(i)] = view.strides != nullptr ? view.strides[i] : dense;
  kept_ = py::reinterpret_borrow<py::object>(x);
  return true;
}

void array::read_attributes(py::handle x) {
  const std::string device = text_of(x.attr("device").attr("type"));
  if (device != "cpu") refuse(name, " lies on ", device, ", not on the cpu");
  const py::tuple shape(x.attr("shape")), steps(x.attr("stride")());
  set_dims(static_cast<int>(shape.size()));
  element = element_of(x.attr("dtype"), name);
  data = reinterpret_cast<void*>(py::cast<std::uintptr_t>(x.attr("data_ptr")()));
  for (int i = 0; i < dims; ++i)
    sizes[std::size_t(i)] = py::cast<std::int64_t>(shape[std::size_t(i)]),
    strides[std::size_t(i)] = py::cast<std::int64_t>(steps[std::size_t(i)]);
  kept_ = py::reinterpret_borrow<py::object>(x);
}

void array::read_buffer(py::handle x) {
  Py_buffer& view = buffer_.view;
  if (PyObject_GetBuffer(x.ptr(), &view, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
    PyErr_Clear();
    view = {};
    std::int32_t of_dtype = 0;
    if (py::hasattr(x, "dtype")) of_dtype = element_of(x.attr("dtype"), name);  // bfloat16: no format says it
    if (of_dtype != FOVEA_BF16) refuse(name, " shows no buffer");
    const py::object bits = x.attr("view")("uint16");
    if (PyObject_GetBuffer(bits.ptr(), &view, PyBUF_STRIDES) != 0) throw py::error_already_set();
    element = FOVEA_BF16;
  } else {
    element = element_of_format(view);
    if (element == 0)
      refuse(name, " has elements of the format ", view.format,
             py::hasattr(x, "dtype") ? " (" + text_of(x.attr("dtype")) + ")" : "",
             ", not float32, float64, bfloat16, float16, int8, uint8, bool, int32, int64 or uint64");
  }
  set_dims(view.ndim);
  data = view.buf, writable = view.readonly == 0;
  Py_ssize_t dense = view.itemsize;
  for (int i = dims; i-- > 0; dense *= view.shape[i]) {
    const Py_ssize_t step = view.strides != nullptr ? view.strides[i] : dense;  // none: ctypes' arrays
    if (step % view.itemsize != 0)
      refuse(name, " has a stride of ", std::to_string(step), " bytes, of elements of ",
             std::to_string(view.itemsize));
    sizes[std::size_t(i)] = view.shape[i], strides[std::size_t(i)] = step / view.itemsize;
  }
}

fovea_tensor array::tensor() const {
  std::int64_t size[4] = {1, 1, 1, 1}, step[4] = {};
  for (int i = 0; i < dims; ++i)
    size[4 - dims + i] = sizes[std::size_t(i)], step[4 - dims + i] = strides[std::size_t(i)];
  return {data, element, 0, size[0], size[1], size[2], size[3], step[0], step[1], step[2], step[3]};
}

fovea_tensor array::rows(const array& of) const {
  const auto shape = [](const array& x, int count) {
    std::string text = "(";
    for (int i = 0; i < count; ++i) text += (i > 0 ? ", " : "") + std::to_string(x.sizes[std::size_t(i)]);
    return text + ")";
  };
  bool same = dims == of.dims - 1;
  for (int i = 0; i < dims && same; ++i) same = sizes[std::size_t(i)] == of.sizes[std::size_t(i)];
  if (!same) refuse(name, " has the shape ", shape(*this, dims), ", not ", shape(of, of.dims - 1));
  std::int64_t size[3] = {1, 1, 1}, step[3] = {};
  for (int i = 0; i < dims; ++i)
    size[3 - dims + i] = sizes[std::size_t(i)], step[3 - dims + i] = strides[std::size_t(i)];
  return {data, element, 0, size[0], size[1], size[2], 1, step[0], step[1], step[2], 1};
}

fovea_list array::list() const {
  if (dims != 1) refuse(name, " has ", std::to_string(dims), " dimensions, not 1");
  return {data, element, 0, sizes[0], strides[0]};
}

const array& array::as_tokens() const {
  if (dims < 2) refuse(name, " has ", std::to_string(dims), " dimensions, not 2, 3 or 4");
  return *this;
}
const array& array::as_written() const {
  if (!writable) refuse(name, " can not be written");
  return *this;
}

array numbers(py::handle x, const char* argument, bool integers) {
  if (PyObject_CheckBuffer(x.ptr()) || py::hasattr(x, "__dlpack__")) return array(x, argument);
  try {
    py::object list = numpy().attr("asarray")(x);
    const std::string kind = text_of(list.attr("dtype").attr("kind"));
    const bool none = py::cast<std::int64_t>(list.attr("size")) == 0;
    if (kind == "O" || (integers && !none && kind != "i" && kind != "u" && kind != "b"))
      refuse(argument, " is ", shown(x), ", not a list of ", integers ? "integers" : "numbers");
    // Unsigned numbers of 64 bits have no place among signed ones.
    if (integers && text_of(list.attr("dtype").attr("name")) == "uint64") return array(list, argument);
    return array(numpy().attr("asarray")(list, integers ? "int64" : "float64"), argument);
  } catch (const py::error_already_set& e) {
    if (!e.matches(PyExc_ValueError) && !e.matches(PyExc_TypeError)) throw;
    refuse(argument, " is ", shown(x), ", not a list of ", integers ? "integers" : "numbers");
  }
}

py::object empty_like(py::handle like, const array& of, const std::vector<std::int64_t>& sizes,
                      std::int32_t element) {
  py::tuple shape(sizes.size());
  for (std::size_t i = 0; i < sizes.size(); ++i) shape[i] = sizes[i];
  if (py::hasattr(like, "new_empty")) {
    if (element == of.element) return like.attr("new_empty")(shape);
    return like.attr("new_empty")(shape,
                                  py::arg("dtype") = py::module_::import("torch").attr(names[element]));
  }
  if (element == FOVEA_BF16) return numpy().attr("empty")(shape, like.attr("dtype"));
  return numpy().attr("empty")(shape, names[element]);
}

}  // namespace native
