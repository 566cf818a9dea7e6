// fovea/compiled/inspect.hpp - weights, logits and statistics, for numbers of one type.
#pragma once

#include <fovea/compiled/attend.hpp>
#include <fovea/compiled/numbers.hpp>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// What a call tells of itself: it reads q and k alone. T: float (of elements of 16 bits too) or double.
template <class T, class Arch = xsimd::default_arch>
struct inspections_of {
  template <class Look>
  static void with_keys(const fovea_call& call, const char* what, const Look& look) {
    if (call.query_offsets.data != nullptr || call.key_offsets.data != nullptr)
      reject(what, " are of tensors and caches, not of packed sequences");
    const call_executor workers(call);
    const as_numbers<T> q(call.q, "q");
    const call_keys<T> k(call, nullptr);
    const attention<T, dynamic_heads, dynamic_heads, Arch> attend(
        options_of(call, k.view().heads(), workers));
    call_rules<Arch, T> rules(call, q.view.heads);
    rules.inspect([&](const auto&... mods) { look(attend, q.view, k.view(), mods...); }, what);
  }

  /// Whether a matrix a head can be written to `to`.
  static void check_matrices(const fovea_call& call, index_type keys, const fovea_tensor& to,
                             const char* name) {
    const auto out = view_as<T>(to, name);
    const auto same = [&](const char* what, index_type has, index_type wanted) {
      if (has != wanted) reject(name, " has ", has, " ", what, ", not ", wanted);
    };
    same("batch entries", out.batch, call.q.batch), same("heads", out.heads, call.q.heads);
    same("rows (queries)", out.tokens, call.q.tokens), same("columns (keys)", out.dim, keys);
    if (out.data == nullptr && out.batch > 0 && out.heads > 0 && out.tokens > 0 && keys > 0)
      reject(name, " is a null pointer");
    written_tensors written;
    written.add(name, to), written.read("q", call.q), check_operands(written, call);
  }
  static void write(const tensor<T>& from, const fovea_tensor& to, const char* name) {
    const auto out = view_as<T>(to, name);
    for (index_type b = 0; b < out.batch; ++b)
      for (index_type h = 0; h < out.heads; ++h)
        for (index_type t = 0; t < out.tokens; ++t)
          for (index_type c = 0; c < out.dim; ++c) out(b, h, t, c) = from(b, h, t, c);
  }
  static void weights(const fovea_call& call, const fovea_tensor& to) {
    with_keys(call, "weights", [&](const auto& attend, const auto& q, const auto& k, const auto&... mods) {
      check_matrices(call, k.max_tokens(), to, "weights");
      write(attend.weights(q, k, mods...), to, "weights");
    });
  }
  static void logits(const fovea_call& call, const fovea_tensor& to) {
    with_keys(call, "logits", [&](const auto& attend, const auto& q, const auto& k, const auto&... mods) {
      check_matrices(call, k.max_tokens(), to, "logits");
      write(attend.scores(q, k, mods...), to, "logits");
    });
  }
  static void measure(const fovea_call& call, const fovea_statistics& to) {
    with_keys(call, "statistics", [&](const auto& attend, const auto&... all) {
      const index_type count = size_product("rows of q", call.q.batch, call.q.heads, call.q.tokens, 8) / 8;
      written_tensors written;
      const auto will_write = [&](const char* name, const auto* out) {
        const std::int32_t element = element_code<std::remove_cvref_t<decltype(*out)>>;
        written.add(name, tensor_of_list({out, element, 0, count, 1}));
      };
      will_write("entropy", to.entropy), will_write("distance", to.distance);
      will_write("largest", to.largest), will_write("mass", to.mass), will_write("lse", to.lse);
      will_write("key", to.key), will_write("visible", to.visible);
      written.read("q", call.q), check_operands(written, call);
      const row_statistics rows = attend.statistics(all...);
      const auto write_all = [](const auto& from, auto* out) {
        if (out != nullptr) std::copy(from.data(), from.data() + from.size(), out);
      };
      write_all(rows.entropy, to.entropy), write_all(rows.distance, to.distance);
      write_all(rows.largest, to.largest), write_all(rows.mass, to.mass), write_all(rows.lse, to.lse);
      write_all(rows.key, to.key), write_all(rows.visible, to.visible);
    });
  }
};

}  // namespace described
FOVEA_NAMESPACE_END
