// fovea._native: the compiled library's calls for Python. What they mean stands in the modules that pass them on.
#include "call.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <memory>

namespace native {
namespace {

py::object attention(py::object q, py::object k, py::object v, bool return_lse, py::object out,
                     const py::dict& options) {
  call one(of_attention, q, k, v, options);
  if (one.k && !one.v) refuse("attention takes q, k and v, or q and a cache");
  if (out.is_none()) out = empty_like(q, *one.q, one.rows_and(one.value_dim), one.q->element);
  one.c.o = one.keep(out, "out").as_result().tensor();
  py::object lse = py::none();
  if (return_lse) {
    lse = empty_like(q, *one.q, one.rows(), one.sums());
    one.c.lse = one.keep(lse, "lse").rows(*one.q);
  }
  run(fovea_attend, &one.c);
  return return_lse ? py::object(py::make_tuple(out, lse)) : out;
}

py::tuple backward(py::object q, py::object k, py::object v, py::object out, py::object lse, py::object d_out,
                   py::object d_lse, const py::dict& options) {
  call one(of_backward, q, k, v, options);
  if (!one.k || !one.v) refuse("backward takes q, k and v, not caches");
  one.c.o = one.keep(out, "out").as_tokens().tensor(), one.c.lse = one.keep(lse, "lse").rows(*one.q);
  fovea_gradients& g = one.gradients;
  g.d_o = one.keep(d_out, "d_out").as_tokens().tensor();
  if (!d_lse.is_none()) g.d_lse = one.keep(d_lse, "d_lse").rows(*one.q);
  const auto result = [&](py::handle like, const array& of, const char* name, fovea_tensor& to) {
    py::object made = empty_like(like, of, {of.sizes.begin(), of.sizes.begin() + of.dims}, of.element);
    to = one.keep(made, name).tensor();
    return made;
  };
  py::object d_q = result(q, *one.q, "d_q", g.d_q), d_k = result(k, *one.k, "d_k", g.d_k),
             d_v = result(v, *one.v, "d_v", g.d_v);
  run(fovea_backward, &one.c, &g);
  return py::make_tuple(d_q, d_k, d_v);
}

/// Keys that a row sees at most: of k, or of the longest cache.
std::int64_t keys_of(const call& one) {
  if (one.k) return one.k->sizes[std::size_t(one.k->dims - 2)];
  std::int64_t most = 0;
  for (std::int64_t b = 0; b < one.c.cache_count; ++b)
    most = std::max(most, fovea_cache_tokens(one.c.caches[b]));
  return most;
}
template <std::int32_t Write(const fovea_call*, const fovea_tensor*, fovea_error*)>
py::object matrices(py::object q, py::object k, const py::dict& options) {
  call one(of_weights, q, k, py::none(), options);
  py::object made = empty_like(q, *one.q, one.rows_and(keys_of(one)), one.sums());
  const fovea_tensor to = one.keep(made, "weights").tensor();
  run(Write, &one.c, &to);
  return made;
}
py::dict statistics(py::object q, py::object k, const py::dict& options) {
  call one(of_weights, q, k, py::none(), options);
  fovea_statistics to{};
  to.size_of_this = sizeof to;
  const py::module_ numpy = py::module_::import("numpy");
  py::dict rows;
  const auto add = [&](const char* name, auto& place, const char* elements) {
    py::object made = numpy.attr("empty")(py::cast(one.rows()), elements);
    place = static_cast<std::remove_reference_t<decltype(place)>>(one.keep(made, name).data);
    rows[name] = made;
  };
  add("entropy", to.entropy, "float64"), add("distance", to.distance, "float64"),
      add("largest", to.largest, "float64");
  add("mass", to.mass, "float64"), add("lse", to.lse, "float64"), add("key", to.key, "int64"),
      add("visible", to.visible, "int64");
  run(fovea_measure, &one.c, &to);
  return rows;
}

fovea_rotary angles_of(const array& cos, const array& sin, bool interleaved) {
  return {sizeof(fovea_rotary), cos.tensor(), sin.tensor(), interleaved, 0};
}
py::object rotate(py::object x, py::object cos, py::object sin, std::int64_t first, bool interleaved,
                  py::object out) {
  const array from(x, "x"), cosines(cos, "cos"), sines(sin, "sin");
  if (out.is_none())
    out = empty_like(x, from, {from.sizes.begin(), from.sizes.begin() + from.dims}, from.element);
  const array result(out, "out");
  const fovea_rotary angles = angles_of(cosines, sines, interleaved);
  const fovea_tensor read = from.as_tokens().tensor(), to = result.as_result().tensor();
  run(fovea_rotate, &angles, &read, first, &to);
  return out;
}

void make_cache(cache& one, int kind, py::object dtype, std::int64_t heads, std::int64_t dim,
                std::int64_t value_dim, std::int64_t capacity, std::int64_t sinks) {
  fovea_cache_options options{};
  options.size_of_this = sizeof options, options.kind = kind, options.element = element_of(dtype, "dtype");
  options.heads = heads, options.dim = dim, options.value_dim = value_dim, options.capacity = capacity,
  options.sinks = sinks;
  run(fovea_cache_create, &options, &one.handle);
  one.value_dim = value_dim == 0 ? dim : value_dim;
}
void append(cache& one, py::object k, py::object v, py::object cos, py::object sin, bool interleaved) {
  const array keys(k, "k"), values(v, "v");
  const fovea_tensor k_view = keys.as_tokens().tensor(), v_view = values.as_tokens().tensor();
  if (cos.is_none() != sin.is_none())
    refuse(cos.is_none() ? "sin is given without cos" : "cos is given without sin");
  if (cos.is_none()) return run(fovea_cache_append, one.handle, &k_view, &v_view);
  const array cosines(cos, "cos"), sines(sin, "sin");
  const fovea_rotary angles = angles_of(cosines, sines, interleaved);
  run(fovea_cache_append_rotated, one.handle, &k_view, &v_view, &angles);
}

std::unique_ptr<mask> joined(int kind, const mask& a, const mask& b, py::object keeps) {
  return std::make_unique<mask>(kind, std::vector<const mask*>{&a, &b}, std::move(keeps));
}

}  // namespace
}  // namespace native

PYBIND11_MODULE(_native, m) {
  using namespace native;
  m.doc() = "The compiled library's calls: see the modules of fovea.";
  m.attr("options") = call::option_names();
  m.attr("version") = fovea_version(), m.attr("isa") = fovea_isa();
  m.def("attention", &attention), m.def("backward", &backward);
  m.def("weights", &matrices<fovea_weights>), m.def("logits", &matrices<fovea_logits>),
      m.def("statistics", &statistics);
  m.def("rotate", &rotate);

  py::class_<mask>(m, "Mask",
                   "A mask as data; made by the functions of fovea.masks. They intersect by &, join by |; ~ "
                   "is the complement.")
      .def(py::init<int, const py::dict&>())
      .def("__and__",
           [](const mask& a, const mask& b) {
             return joined(FOVEA_ALL_OF, a, b, py::make_tuple(py::cast(&a), py::cast(&b)));
           })
      .def("__or__",
           [](const mask& a, const mask& b) {
             return joined(FOVEA_ANY_OF, a, b, py::make_tuple(py::cast(&a), py::cast(&b)));
           })
      .def("__invert__", [](const mask& a) {
        return std::make_unique<mask>(FOVEA_NOT, std::vector<const mask*>{&a}, py::cast(&a));
      });

  py::class_<threads>(
      m, "Threads",
      "`workers` threads that work on a call: the calling one and workers - 1 others. Calls may share them.")
      .def(py::init([](std::int64_t workers) {
             auto one = std::make_unique<threads>();
             run(fovea_threads_create, workers, &one->handle);
             return one;
           }),
           py::arg("workers"));

  py::class_<pool>(m, "PagePool")
      .def(py::init([](std::int64_t heads, std::int64_t dim, std::int64_t pages, std::int64_t page_tokens,
                       std::int64_t value_dim, py::object dtype) {
        auto one = std::make_unique<pool>();
        one->options = {sizeof(fovea_pool_options),
                        element_of(dtype, "dtype"),
                        0,
                        heads,
                        dim,
                        value_dim,
                        pages,
                        page_tokens};
        run(fovea_pool_create, &one->options, &one->handle);
        return one;
      }))
      .def_property_readonly("free_pages", [](const pool& one) { return fovea_pool_free_pages(one.handle); });

  py::class_<cache>(m, "Cache")
      .def(py::init([](int kind, py::object dtype, std::int64_t heads, std::int64_t dim,
                       std::int64_t value_dim, std::int64_t capacity, std::int64_t sinks) {
        auto one = std::make_unique<cache>();
        make_cache(*one, kind, dtype, heads, dim, value_dim, capacity, sinks);
        return one;
      }))
      .def(py::init([](py::object of) {
        auto one = std::make_unique<cache>();
        const pool& pages = to_object<pool>(of, "pool", "a fovea.PagePool");
        fovea_cache_options options{};
        options.size_of_this = sizeof options, options.kind = FOVEA_PAGED,
        options.element = pages.options.element;
        options.heads = pages.options.heads, options.dim = pages.options.dim,
        options.value_dim = pages.options.value_dim;
        options.pool = pages.handle;
        run(fovea_cache_create, &options, &one->handle);
        one->value_dim = options.value_dim == 0 ? options.dim : options.value_dim, one->keeps = std::move(of);
        return one;
      }))
      .def("_append", &append)
      .def("_truncate",
           [](cache& one, std::int64_t tokens) { run(fovea_cache_truncate, one.handle, tokens); })
      .def("_keep",
           [](cache& one, py::object tokens) {
             const array kept = numbers(tokens, "tokens", true);
             const fovea_list list = kept.list();
             run(fovea_cache_keep, one.handle, &list);
           })
      .def("_reserve",
           [](cache& one, std::int64_t capacity) { run(fovea_cache_reserve, one.handle, capacity); })
      .def("_fork_into",
           [](const cache& one, cache& other) {
             fovea_cache* made = nullptr;
             run(fovea_cache_fork, one.handle, &made);
             fovea_cache_destroy(other.handle), other.handle = made;
             other.keeps = one.keeps, other.value_dim = one.value_dim;
           })
      .def("_save",
           [](const cache& one, const std::string& path) { run(fovea_cache_save, one.handle, path.c_str()); })
      .def("_load",
           [](cache& one, const std::string& path) { run(fovea_cache_load, one.handle, path.c_str()); })
      .def_property_readonly("_pool", [](const cache& one) { return one.keeps; })
      .def("__len__", [](const cache& one) { return fovea_cache_tokens(one.handle); })
      .def_property_readonly(
          "position", [](const cache& one) { return fovea_cache_position(one.handle); },
          "Of the next token in the whole sequence.")
      .def_property_readonly(
          "nbytes", [](const cache& one) { return fovea_cache_bytes(one.handle); }, "Bytes of its memory.");
}
