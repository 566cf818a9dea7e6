// fovea/compiled/described_sink.hpp - the sink and the dropout of a call, which may have none: one type each.
#pragma once

#include <fovea/kernel/rules/cells.hpp>
#include <fovea/score/dropout.hpp>
#include <fovea/score/sink.hpp>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// The sink of a call: none (a logit of -inf), off by one, or a logit a head.
struct described_sink {
  fovea::sink given;
  double everywhere = -std::numeric_limits<double>::infinity();

  bool has_logits() const noexcept { return static_cast<bool>(given.logits); }
  std::span<float> gradient() const noexcept { return given.gradient(); }
  void set_gradient(index_type head, double value) const noexcept {
    if (has_logits()) given.set_gradient(head, value);
  }
  bool absent() const noexcept { return !has_logits() && everywhere < 0; }
  void check(const place& at) const {
    if (has_logits()) given.check(at);
  }
  template <class T>
  void check_numbers() const {
    if (has_logits()) given.template check_numbers<T>();
  }
  void each_operand(const auto& f) const {
    if (has_logits()) given.each_operand(f);
  }
  double logit(index_type head) const noexcept { return has_logits() ? given.logit(head) : everywhere; }
};

/// The dropout of a call: a rate of 0 drops nothing, and costs nothing.
struct described_dropout {
  static constexpr bool drops = true;
  dropout given;

  struct of_head : head_dropout {
    bool on;
    bool active() const noexcept { return on; }
  };
  bool active() const noexcept { return given.rate != 0; }
  void check(const place& at) const { given.check(at); }
  of_head bind(const place& at) const noexcept { return {given.bind(at), active()}; }
};

}  // namespace described
FOVEA_NAMESPACE_END
