// fovea/plan/wrong_arguments.hpp - what is no argument of a call, in sentences that say what was meant.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/plan/modifiers.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN
namespace wrong {

struct visible_named {
  int visible;
};
struct apply_named {
  int apply;
};
struct call_named {
  void operator()();
};
template <class X, class Named>
struct both : X, Named {};

template <class X>
concept can_be_base = std::is_class_v<X> && !std::is_final_v<X>;

/// Whether X has a member of that name, template or not: another of the same name makes it ambiguous.
/// (Nothing of X is instantiated, as asking for visible(cells) would.)
template <class X>
concept has_visible = can_be_base<X> && !requires { &both<X, visible_named>::visible; };
template <class X>
concept has_apply = can_be_base<X> && !requires { &both<X, apply_named>::apply; };
template <class X>
concept has_call = can_be_base<X> && !requires { &both<X, call_named>::operator(); };

}  // namespace wrong

/// True, or an error that says what M is instead of a mask, a score or a sink.
template <class M>
consteval bool check_modifier() {
  if constexpr (call_modifier<M>)
    return true;
  else if constexpr (viewable<M>)
    static_assert(
        never<M>,
        "fovea: a matrix among masks and scores says what it is: fovea::boolean_mask(m), true keeps, "
        "or fovea::bias(m), which is added");
  else if constexpr (wrong::has_visible<M>)
    static_assert(
        never<M>,
        "fovea: a mask whose visible(cells) reads memory says so by a member: using reads_cells = void; "
        "(see mask/concept.hpp)");
  else if constexpr (wrong::has_apply<M>)
    static_assert(never<M>,
                  "fovea: a score says when it acts by a member: static constexpr fovea::score_stage stage = "
                  "fovea::score_stage::bias; (see score/concept.hpp)");
  else if constexpr (wrong::has_call<M>)
    static_assert(never<M>,
                  "fovea: a function among masks and scores says what it is: fovea::mask(f), f of (q, k), or "
                  "fovea::score(f), f of (s, q, k)");
  else if constexpr (std::is_arithmetic_v<M>)
    static_assert(never<M>,
                  "fovea: a number is neither a mask, a score nor a sink; the scale is an option: "
                  "attention<float, 8>{{.scale = 0.1}}");
  else
    static_assert(never<M>,
                  "fovea: what follows q, k, v is a mask, a score or a sink (see mask.hpp, score.hpp)");
  return false;
}

/// True, or an error that says what X is instead of a matrix, a tensor_view, a tensor or a ragged batch.
template <class X>
consteval bool check_operand() {
  static_assert(!call_modifier<X> && !wrong::has_visible<X> && !wrong::has_apply<X>,
                "fovea: q, k and v come first, masks and scores after them: attend(q, k, v, fovea::causal)");
  static_assert(!key_value_cache<X>,
                "fovea: the queries come first, a cache stands for k and v: attend(q, cache, fovea::causal)");
  if constexpr (viewable<X>)
    static_assert(element<element_of<X>>,
                  "fovea: elements are float, double, bf16 or fp16 (int8 in a cache alone)");
  else
    static_assert(call_modifier<X> || key_value_cache<X> || wrong::has_visible<X> || wrong::has_apply<X>,
                  "fovea: q, k, v and o are Eigen matrices, tensor_views, tensors or ragged batches");
  if constexpr (viewable<X>) return element<element_of<X>>;
  return false;
}

FOVEA_NAMESPACE_END
