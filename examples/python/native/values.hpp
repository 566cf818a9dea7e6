// Numbers, truth values and objects of the package from Python's arguments.
#pragma once

#include "arrays.hpp"

#include <concepts>
#include <limits>

namespace native {

/// What was given, as an error shows it.
inline std::string shown(py::handle x) {
  constexpr std::size_t most = 80;
  const py::object ascii = py::reinterpret_steal<py::object>(PyObject_ASCII(x.ptr()));  // may be cut anywhere
  if (!ascii) throw py::error_already_set();
  const std::string text = py::cast<std::string>(ascii);
  return text.size() <= most ? text : text.substr(0, most) + "...";
}

/// An integer, a number or a truth value; all else is refused, with the argument's name and what was given. A
/// float is no integer, whole or not: pybind11 refuses Python's own, but would cut numpy's.
template <class T>
T to(py::handle x, const std::string& name) {
  if constexpr (std::same_as<T, bool>) {
    const int truth = PyNumber_Check(x.ptr()) != 0 ? PyObject_IsTrue(x.ptr()) : -1;
    if (truth >= 0) return truth != 0;
    PyErr_Clear();
    refuse(name, " is ", shown(x), ", not True or False");
  } else if constexpr (std::floating_point<T>) {
    const double number = PyFloat_AsDouble(x.ptr());
    if (PyErr_Occurred() == nullptr) return number;
    PyErr_Clear();
    refuse(name, " is ", shown(x), ", not a number");
  } else {
    const py::object whole = py::reinterpret_steal<py::object>(PyNumber_Index(x.ptr()));
    if (whole) {
      T number{};
      if constexpr (std::unsigned_integral<T>)
        number = static_cast<T>(PyLong_AsUnsignedLongLong(whole.ptr()));
      else
        number = static_cast<T>(PyLong_AsLongLong(whole.ptr()));
      if (PyErr_Occurred() == nullptr) return number;
    }
    PyErr_Clear();
    if (!whole) refuse(name, " is ", shown(x), ", not an integer");
    refuse(name, " is ", shown(x), ", not from ", std::to_string(std::numeric_limits<T>::min()), " to ",
           std::to_string(std::numeric_limits<T>::max()));
  }
}

/// An object of a class of this module; `kind`: what to call it in the error.
template <class T>
const T& to_object(py::handle x, const std::string& name, const char* kind) {
  if (!py::isinstance<T>(x)) refuse(name, " is ", shown(x), ", not ", kind);
  return py::cast<const T&>(x);
}

/// The two integers of a tuple or list.
inline std::array<std::int64_t, 2> to_pair(py::handle x, const std::string& name, const char* form) {
  const bool listed = PyTuple_Check(x.ptr()) || PyList_Check(x.ptr());
  if (!listed || PySequence_Size(x.ptr()) != 2) refuse(name, " is ", shown(x), ", not ", form);
  return {to<std::int64_t>(x[py::int_(0)], name + "[0]"), to<std::int64_t>(x[py::int_(1)], name + "[1]")};
}

}  // namespace native
