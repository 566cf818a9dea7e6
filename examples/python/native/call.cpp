// See call.hpp.
#include "call.hpp"

namespace native {
namespace {

std::int64_t integer(py::handle x) { return py::cast<std::int64_t>(x); }

void three(py::handle from, std::int64_t* to) {
  int i = 0;
  for (const py::handle x : from)
    if (i < 3) to[i++] = integer(x);
}

int causal_kind(py::handle x) {
  if (!PyUnicode_Check(x.ptr())) return py::cast<bool>(x) ? FOVEA_CAUSAL : 0;
  const std::string corner = py::cast<std::string>(x);
  if (corner == "top_left") return FOVEA_CAUSAL_TOP_LEFT;
  if (corner == "bottom_right") return FOVEA_CAUSAL_BOTTOM_RIGHT;
  refuse("causal is ", corner, ", not True, top_left or bottom_right");
}

}  // namespace

mask::mask(int kind, const py::dict& fields) : c(fovea_mask_of(kind)) {
  const auto list = [&](py::handle x, const char* name, bool integers) {
    return arrays_.emplace_back(integers ? numbers(x, name, true) : array(x, name)).list();
  };
  for (const auto& [key, value] : fields) {
    const std::string name = py::cast<std::string>(key);
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
      three(value, c.sizes);
    else if (name == "kernel")
      three(value, c.kernel);
    else if (name == "dilation")
      three(value, c.dilation);
    else if (name == "causal_axes") {
      std::int64_t axes[3] = {};
      three(value, axes);
      for (int a = 0; a < 3; ++a) c.causal_axes[a] = static_cast<std::int32_t>(axes[a]);
    } else if (name == "window")
      c.window = integer(value);
    else if (name == "global_blocks")
      c.global = integer(value);
    else if (name == "random")
      c.random = integer(value);
    else if (name == "seed")
      c.seed = py::cast<std::uint64_t>(value);
    else
      throw py::type_error("fovea: a mask has no field " + name);
  }
}

mask::mask(int kind, const std::vector<const mask*>& parts, py::object keeps)
    : c(fovea_mask_of(kind)), keeps_(std::move(keeps)) {
  for (const mask* part : parts) parts_.push_back(part->c);
  c.parts = parts_.data(), c.part_count = static_cast<std::int64_t>(parts_.size());
}

call::call(py::handle of_q, py::handle of_k, py::handle of_v, const py::dict& options) {
  fovea_call_init(&c);
  gradients.size_of_this = sizeof gradients;
  q.emplace(of_q, "q"), c.q = q->as_tokens().tensor();
  const auto add_cache = [&](py::handle x) {
    const auto& one = py::cast<const cache&>(x);
    if (caches_.empty()) value_dim = one.value_dim;
    caches_.push_back(one.handle), kept_.push_back(py::reinterpret_borrow<py::object>(x));
  };
  if (py::isinstance<cache>(of_k)) {
    add_cache(of_k);
  } else if ((PyList_Check(of_k.ptr()) || PyTuple_Check(of_k.ptr())) && PySequence_Size(of_k.ptr()) > 0 &&
             py::isinstance<cache>(py::sequence(py::reinterpret_borrow<py::object>(of_k))[0])) {
    for (const py::handle x : of_k) add_cache(x);
  } else {
    k.emplace(of_k, "k"), c.k = k->as_tokens().tensor();
    if (!of_v.is_none())
      v.emplace(of_v, "v"), c.v = v->as_tokens().tensor(), value_dim = v->sizes[std::size_t(v->dims - 1)];
  }
  c.caches = caches_.empty() ? nullptr : caches_.data(),
  c.cache_count = static_cast<std::int64_t>(caches_.size());
  for (const auto& [key, value] : options)
    if (!value.is_none()) set(py::cast<std::string>(key), value);
  finish();
}

std::vector<std::int64_t> call::rows() const { return {q->sizes.begin(), q->sizes.begin() + (q->dims - 1)}; }
std::vector<std::int64_t> call::rows_and(std::int64_t columns) const {
  std::vector<std::int64_t> sizes = rows();
  sizes.push_back(columns);
  return sizes;
}

struct call::option {
  const char* name;
  void (*set)(call&, py::handle);
};

template <py::object call::*Place>
void call::keep_as(call& to, py::handle x) {
  to.*Place = py::reinterpret_borrow<py::object>(x);
}

/// By name. What several options make together is made by finish().
std::span<const call::option> call::options() {
  static constexpr option all[] = {
      {"alibi", keep_as<&call::alibi_>},
      {"alibi_offset", [](call& to, py::handle x) { to.alibi_offset_ = integer(x); }},
      {"bias", keep_as<&call::bias_>},
      {"bias_table", keep_as<&call::table_>},
      {"causal", [](call& to, py::handle x) { to.causal_ = causal_kind(x); }},
      {"d_alibi", keep_as<&call::d_alibi_>},
      {"d_bias", keep_as<&call::d_bias_>},
      {"d_bias_table", keep_as<&call::d_table_>},
      {"d_gate", [](call& to, py::handle x) { to.gradients.d_gate = to.gate_of(x, "d_gate"); }},
      {"d_sinks", [](call& to, py::handle x) { to.c.sink_gradient = to.keep_numbers(x, "d_sinks").list(); }},
      {"d_swin_bias", keep_as<&call::d_swin_>},
      {"d_t5_bias", keep_as<&call::d_t5_>},
      {"dropout", [](call& to, py::handle x) { to.c.dropout_rate = py::cast<double>(x); }},
      {"gate", [](call& to, py::handle x) { to.c.gate = to.gate_of(x, "gate"); }},
      {"key_lengths",
       [](call& to, py::handle x) {
         py::dict fields;
         fields["list"] = py::reinterpret_borrow<py::object>(x);
         to.masks_.push_back(to.made_.emplace_back(FOVEA_KEY_LENGTHS, fields).c);
       }},
      {"key_offsets",
       [](call& to, py::handle x) { to.c.key_offsets = to.keep_numbers(x, "key_offsets", true).list(); }},
      {"mask", keep_as<&call::mask_>},
      {"off_by_one", [](call& to, py::handle x) { to.c.off_by_one = py::cast<bool>(x); }},
      {"query_offsets",
       [](call& to, py::handle x) { to.c.query_offsets = to.keep_numbers(x, "query_offsets", true).list(); }},
      {"scale", [](call& to, py::handle x) { to.c.scale = py::cast<double>(x), to.c.has_scale = 1; }},
      {"seed", [](call& to, py::handle x) { to.c.dropout_seed = py::cast<std::uint64_t>(x); }},
      {"sinks", [](call& to, py::handle x) { to.c.sink = to.keep_numbers(x, "sinks").list(); }},
      {"slots", keep_as<&call::slots_>},
      {"softcap", [](call& to, py::handle x) { to.softcap_ = py::cast<double>(x); }},
      {"swin_bias", keep_as<&call::swin_>},
      {"swin_window", keep_as<&call::swin_window_>},
      {"t5_bias", keep_as<&call::t5_>},
      {"t5_bidirectional", [](call& to, py::handle x) { to.t5_bidirectional_ = py::cast<bool>(x); }},
      {"t5_max_distance", [](call& to, py::handle x) { to.t5_max_distance_ = integer(x); }},
      {"threads",
       [](call& to, py::handle x) {
         to.c.threads = py::cast<const threads&>(x).handle,
         to.kept_.push_back(py::reinterpret_borrow<py::object>(x));
       }},
      {"window", keep_as<&call::window_>},
  };
  return all;
}

py::tuple call::option_names() {
  py::list names;
  for (const option& one : options()) names.append(one.name);
  return py::tuple(names);
}

void call::set(const std::string& name, py::handle value) {
  for (const option& one : options())
    if (name == one.name) return one.set(*this, value);
  throw py::type_error("fovea: there is no option " + name);
}

fovea_tensor call::gate_of(py::handle x, const char* name) {
  const array& gate = keep(x, name);
  return gate.dims == q->dims - 1 ? gate.rows(*q) : gate.as_tokens().tensor();
}

fovea_score& call::score(int kind) { return scores_.emplace_back(fovea_score_of(kind)); }

/// Masks and scores, in the order of the library.
void call::finish() {
  if (mask_ && !py::isinstance<mask>(mask_)) {
    const array& given = keep(mask_, "mask");
    if (given.element == FOVEA_U8) {
      fovea_mask boolean = fovea_mask_of(FOVEA_BOOLEAN);
      boolean.matrix = given.tensor(), masks_.push_back(boolean);
    } else if (!bias_) {
      bias_ = mask_;
    } else {
      refuse("mask has real numbers, which are added; so is bias: give one of them");
    }
  } else if (mask_) {
    masks_.push_back(py::cast<const mask&>(mask_).c), kept_.push_back(mask_);
  }
  if (causal_ != 0) masks_.push_back(fovea_mask_of(causal_));
  if (window_) {
    fovea_mask window = fovea_mask_of(FOVEA_SLIDING_WINDOW);
    if (PyTuple_Check(window_.ptr()) || PyList_Check(window_.ptr()))
      window.left = integer(window_[py::int_(0)]), window.right = integer(window_[py::int_(1)]);
    else
      window.left = integer(window_), window.right = causal_ != 0 ? -1 : window.left;
    masks_.push_back(window);
  }
  if (softcap_ != 0) score(FOVEA_SOFTCAP).value = softcap_;
  if (alibi_) {
    fovea_score& one = score(FOVEA_ALIBI);
    one.list = keep_numbers(alibi_, "alibi").list(), one.offset = alibi_offset_;
    if (d_alibi_) one.gradient_list = keep(d_alibi_, "d_alibi").list();
  }
  const auto table = [&](int kind, py::handle m, const char* name, py::handle d,
                         const char* d_name) -> fovea_score& {
    fovea_score& one = score(kind);
    one.matrix = keep(m, name).tensor();
    if (d) one.gradient = keep(d, d_name).as_result().tensor();
    return one;
  };
  if (bias_) table(FOVEA_BIAS, bias_, "bias", d_bias_, "d_bias");
  if (t5_) {
    fovea_score& one = table(FOVEA_T5_BIAS, t5_, "t5_bias", d_t5_, "d_t5_bias");
    one.one_direction = !t5_bidirectional_, one.max_distance = t5_max_distance_;
  }
  if (swin_) {
    if (!swin_window_) refuse("swin_bias has no swin_window: (height, width)");
    fovea_score& one = table(FOVEA_SWIN_BIAS, swin_, "swin_bias", d_swin_, "d_swin_bias");
    one.height = integer(swin_window_[py::int_(0)]), one.width = integer(swin_window_[py::int_(1)]);
  }
  if (table_) {
    if (!slots_) refuse("bias_table has no slots: an int32 array that broadcasts to [batch, heads, Lq, Lk]");
    table(FOVEA_BIAS_TABLE, table_, "bias_table", d_table_, "d_bias_table").slots =
        keep(slots_, "slots").tensor();
  }
  c.masks = masks_.data(), c.mask_count = static_cast<std::int64_t>(masks_.size());
  c.scores = scores_.data(), c.score_count = static_cast<std::int64_t>(scores_.size());
}

}  // namespace native
