// All operators at one element; included by a source file for each, so that they compile side by side.
#pragma once

#include "attention_operator.hpp"
#include "linear_operator.hpp"
#include "rotary_operator.hpp"

namespace onnx {

template <class E>
void run_attention_of(const case_file& c, const output_writer& write, bool rounds_steps) {
  const attention_call call(c, rounds_steps);
  const std::string dtype = operand_in(c, 0).dtype;
  for (const std::size_t i : {1, 4})
    if (has_in(c, i) && operand_in(c, i).dtype != dtype)
      throw std::runtime_error("Q is " + dtype + ", " + operand_in(c, i).name + " is " +
                               operand_in(c, i).dtype);
  if (operand_in(c, 2).dtype != dtype)
    throw std::runtime_error("Q is " + dtype + ", V is " + operand_in(c, 2).dtype);
  run_attention<E, E>(call, write);
}

template <class E>
void run_rotary_of(const case_file& c, const output_writer& write) {
  run_rotary<E>(c, write);
}

template <class E>
void run_linear_of(const case_file& c, const output_writer& write) {
  run_linear<E>(c, write);
}

}  // namespace onnx
