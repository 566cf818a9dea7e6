// The options of a call by name: see call.hpp.
#include "call.hpp"

namespace native {
namespace {

int causal_kind(py::handle x) {
  if (!PyUnicode_Check(x.ptr())) return to<bool>(x, "causal") ? FOVEA_CAUSAL : 0;
  const std::string corner = py::cast<std::string>(x);
  if (corner == "top_left") return FOVEA_CAUSAL_TOP_LEFT;
  if (corner == "bottom_right") return FOVEA_CAUSAL_BOTTOM_RIGHT;
  refuse("causal is ", corner, ", not True, top_left or bottom_right");
}

}  // namespace

struct call::option {
  const char* name;
  void (*set)(call&, py::handle);
  const char* needs = nullptr;  // the option without which this one would be passed over
  int functions = of_attention | of_backward | of_weights;
};

template <py::object call::*Place>
void call::keep_as(call& one, py::handle x) {
  one.*Place = py::reinterpret_borrow<py::object>(x);
}

/// By name. What several options make together is made by finish().
std::span<const call::option> call::options() {
  constexpr int both =
      of_attention | of_backward;  // of them gates and dropout are; gradients are written by one
  static constexpr option all[] = {
      {"alibi", keep_as<&call::alibi_>},
      {"alibi_offset",
       [](call& one, py::handle x) { one.alibi_offset_ = to<std::int64_t>(x, "alibi_offset"); }, "alibi"},
      {"bias", keep_as<&call::bias_>},
      {"bias_table", keep_as<&call::table_>},
      {"causal", [](call& one, py::handle x) { one.causal_ = causal_kind(x); }},
      {"d_alibi", keep_as<&call::d_alibi_>, "alibi", of_backward},
      {"d_bias", keep_as<&call::d_bias_>, "bias", of_backward},
      {"d_bias_table", keep_as<&call::d_table_>, "bias_table", of_backward},
      {"d_gate",
       [](call& one, py::handle x) {
         one.gradients.d_gate = one.gate_of(one.keep(x, "d_gate").as_written());
       },
       "gate", of_backward},
      {"d_sinks",
       [](call& one, py::handle x) { one.c.sink_gradient = one.keep(x, "d_sinks").as_written().list(); },
       "sinks", of_backward},
      {"d_swin_bias", keep_as<&call::d_swin_>, "swin_bias", of_backward},
      {"d_t5_bias", keep_as<&call::d_t5_>, "t5_bias", of_backward},
      {"dropout", [](call& one, py::handle x) { one.c.dropout_rate = to<double>(x, "dropout"); }, nullptr,
       both},
      {"gate", [](call& one, py::handle x) { one.c.gate = one.gate_of(one.keep(x, "gate")); }, nullptr, both},
      {"key_lengths",
       [](call& one, py::handle x) {
         py::dict fields;
         fields["list"] = py::reinterpret_borrow<py::object>(x);
         one.masks_.push_back(one.made_.emplace_back(FOVEA_KEY_LENGTHS, fields).c);
       }},
      {"key_offsets",
       [](call& one, py::handle x) { one.c.key_offsets = one.keep_numbers(x, "key_offsets", true).list(); }},
      {"mask", keep_as<&call::mask_>},
      {"off_by_one", [](call& one, py::handle x) { one.c.off_by_one = to<bool>(x, "off_by_one"); }},
      {"query_offsets",
       [](call& one, py::handle x) {
         one.c.query_offsets = one.keep_numbers(x, "query_offsets", true).list();
       }},
      {"scale", [](call& one, py::handle x) { one.c.scale = to<double>(x, "scale"), one.c.has_scale = 1; }},
      {"seed", [](call& one, py::handle x) { one.c.dropout_seed = to<std::uint64_t>(x, "seed"); }, nullptr,
       both},
      {"sinks", [](call& one, py::handle x) { one.c.sink = one.keep_numbers(x, "sinks").list(); }},
      {"slots", keep_as<&call::slots_>, "bias_table"},
      {"softcap", [](call& one, py::handle x) { one.softcap_ = to<double>(x, "softcap"); }},
      {"swin_bias", keep_as<&call::swin_>},
      {"swin_window", keep_as<&call::swin_window_>, "swin_bias"},
      {"t5_bias", keep_as<&call::t5_>},
      {"t5_bidirectional",
       [](call& one, py::handle x) { one.t5_bidirectional_ = to<bool>(x, "t5_bidirectional"); }, "t5_bias"},
      {"t5_max_distance",
       [](call& one, py::handle x) { one.t5_max_distance_ = to<std::int64_t>(x, "t5_max_distance"); },
       "t5_bias"},
      {"threads",
       [](call& one, py::handle x) {
         one.c.threads = to_object<threads>(x, "threads", "fovea.Threads").handle,
         one.kept_.push_back(py::reinterpret_borrow<py::object>(x));
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

const call::option& call::named(const std::string& name) {
  for (const option& one : options())
    if (name == one.name) return one;
  throw py::type_error("fovea: there is no option " + name);
}

void call::set(const py::dict& given, function of) {
  for (const auto& [key, value] : given) {
    const option& one = named(py::cast<std::string>(key));
    if (value.is_none()) continue;
    if ((one.functions & of) == 0)
      refuse(one.name, one.functions == of_backward ? " is an option of backward only"
                                                    : " is an option of attention and backward only");
    one.set(*this, value);
  }
}

/// After mask: one of real numbers is a bias.
void call::refuse_without_partner(const py::dict& given) const {
  const auto has = [&](const char* name) { return given.contains(name) && !given[name].is_none(); };
  for (const option& one : options())
    if (one.needs != nullptr && has(one.name) && !has(one.needs) &&
        !(bias_ && one.name == std::string("d_bias")))
      refuse(one.name, " is given without ", one.needs);
}

fovea_tensor call::gate_of(const array& gate) const {
  return gate.dims == q->dims - 1 ? gate.rows(*q) : gate.as_tokens().tensor();
}

fovea_score& call::score(int kind) { return scores_.emplace_back(fovea_score_of(kind)); }

/// Masks and scores, in the order of the library.
void call::finish(const py::dict& given) {
  if (mask_ && !py::isinstance<mask>(mask_)) {
    const array& matrix = keep(mask_, "mask");
    if (matrix.element == FOVEA_U8) {
      fovea_mask boolean = fovea_mask_of(FOVEA_BOOLEAN);
      boolean.matrix = matrix.tensor(), masks_.push_back(boolean);
    } else if (!bias_) {
      bias_ = mask_;
    } else {
      refuse("mask has real numbers, which are added; so is bias: give one of them");
    }
  } else if (mask_) {
    masks_.push_back(py::cast<const mask&>(mask_).c), kept_.push_back(mask_);
  }
  refuse_without_partner(given);
  if (causal_ != 0) masks_.push_back(fovea_mask_of(causal_));
  if (window_) {
    fovea_mask window = fovea_mask_of(FOVEA_SLIDING_WINDOW);
    if (PyTuple_Check(window_.ptr()) || PyList_Check(window_.ptr())) {
      const auto [left, right] = to_pair(window_, "window", "(left, right)");
      window.left = left, window.right = right;
    } else {
      window.left = to<std::int64_t>(window_, "window"), window.right = causal_ != 0 ? -1 : window.left;
    }
    masks_.push_back(window);
  }
  if (softcap_ != 0) score(FOVEA_SOFTCAP).value = softcap_;
  if (alibi_) {
    fovea_score& one = score(FOVEA_ALIBI);
    one.list = keep_numbers(alibi_, "alibi").list(), one.offset = alibi_offset_;
    if (d_alibi_) one.gradient_list = keep(d_alibi_, "d_alibi").as_written().list();
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
    const auto [height, width] = to_pair(swin_window_, "swin_window", "(height, width)");
    one.height = height, one.width = width;
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
