// See call.hpp.
#include "call.hpp"

namespace native {
namespace {

/// Returns how many numbers there are.
int three(py::handle from, const std::string& name, std::int64_t* numbers) {
  int i = 0;
  for (const py::handle x : from) {
    if (i == 3) refuse(name, " is ", shown(from), ", not 1 to 3 integers");
    numbers[i++] = to<std::int64_t>(x, name);
  }
  return i;
}

}  // namespace

mask::mask(int kind, const py::dict& fields) : c(fovea_mask_of(kind)) {
  const auto list = [&](py::handle x, const char* name, bool integers) {
    return arrays_.emplace_back(integers ? numbers(x, name, true) : array(x, name)).list();
  };
  for (const auto& [key, value] : fields) {
    const std::string name = py::cast<std::string>(key), shown_name = "a mask's " + name;
    const auto integer = [&](py::handle x) { return to<std::int64_t>(x, shown_name); };
    const auto one_an_axis = [&](std::int64_t* numbers) {  // how many axes there are comes before
      const int count = three(value, shown_name, numbers);
      if (count != c.axes)
        refuse(shown_name, " is ", shown(value), ", not a number for each axis of ", std::to_string(c.axes));
    };
    if (name == "list" || name == "query_list")
      (name == "list" ? c.list : c.list2) = list(value, "a mask's list", true);
    else if (name == "words")
      c.list = list(value, "draft_tree", false);
    else if (name == "matrix")
      c.matrix = arrays_.emplace_back(value, "mask").tensor();
    else if (name == "left")
      c.left = integer(value);
    else if (name == "right")
      c.right = integer(value);
    else if (name == "offset")
      c.offset = integer(value), c.has_offset = 1;
    else if (name == "corner")
      c.from = static_cast<std::int32_t>(integer(value));
    else if (name == "size")
      c.size = integer(value);
    else if (name == "size2")
      c.size2 = integer(value);
    else if (name == "axes")
      c.axes = static_cast<std::int32_t>(integer(value));
    else if (name == "sizes")
      one_an_axis(c.sizes);
    else if (name == "kernel")
      one_an_axis(c.kernel);
    else if (name == "dilation")
      one_an_axis(c.dilation);
    else if (name == "causal_axes") {
      std::int64_t axes[3] = {};
      one_an_axis(axes);
      for (int a = 0; a < 3; ++a) c.causal_axes[a] = static_cast<std::int32_t>(axes[a]);
    } else if (name == "window")
      c.window = integer(value);
    else if (name == "global_blocks")
      c.global = integer(value);
    else if (name == "random")
      c.random = integer(value);
    else if (name == "seed")
      c.seed = to<std::uint64_t>(value, shown_name);
    else
      throw py::type_error("fovea: a mask has no field " + name);
  }
}

mask::mask(int kind, const std::vector<const mask*>& parts, py::object keeps)
    : c(fovea_mask_of(kind)), keeps_(std::move(keeps)) {
  for (const mask* part : parts) parts_.push_back(part->c);
  c.parts = parts_.data(), c.part_count = static_cast<std::int64_t>(parts_.size());
}

call::call(function of, py::handle of_q, py::handle of_k, py::handle of_v, const py::dict& options) {
  fovea_call_init(&c);
  gradients.size_of_this = sizeof gradients;
  q.emplace(of_q, "q"), c.q = q->as_tokens().tensor();
  const auto add_cache = [&](py::handle x, const std::string& name) {
    const auto& one = to_object<cache>(x, name, "a cache");
    if (caches_.empty()) value_dim = one.value_dim;
    caches_.push_back(one.handle), kept_.push_back(py::reinterpret_borrow<py::object>(x));
  };
  const auto has_cache = [](py::handle list) {
    if (!PyList_Check(list.ptr()) && !PyTuple_Check(list.ptr())) return false;
    for (const py::handle x : list)
      if (py::isinstance<cache>(x)) return true;
    return false;
  };
  if (py::isinstance<cache>(of_k)) {
    add_cache(of_k, "k");
  } else if (has_cache(of_k)) {
    int i = 0;
    for (const py::handle x : of_k) add_cache(x, "k[" + std::to_string(i++) + "]");
  } else {
    k.emplace(of_k, "k"), c.k = k->as_tokens().tensor();
    if (!of_v.is_none())
      v.emplace(of_v, "v"), c.v = v->as_tokens().tensor(), value_dim = v->sizes[std::size_t(v->dims - 1)];
  }
  if (!caches_.empty() && !of_v.is_none()) refuse("v is given beside a cache, which has values of its own");
  c.caches = caches_.empty() ? nullptr : caches_.data(),
  c.cache_count = static_cast<std::int64_t>(caches_.size());
  set(options, of);
  finish(options);
}

std::vector<std::int64_t> call::rows() const { return {q->sizes.begin(), q->sizes.begin() + (q->dims - 1)}; }
std::vector<std::int64_t> call::rows_and(std::int64_t columns) const {
  std::vector<std::int64_t> sizes = rows();
  sizes.push_back(columns);
  return sizes;
}

}  // namespace native
