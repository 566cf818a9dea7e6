#include "memory.hpp"

#include <algorithm>
#include <cstring>

namespace fovea_test {
namespace {

constexpr unsigned char canary = 0xa5;

/// Strides from the innermost size outwards, each with a gap of so many elements after it.
struct nesting {
  index_type stride = 1;
  index_type next(index_type size, index_type gap = 0) {
    const index_type mine = stride;
    stride = stride * std::max<index_type>(size, 1) + gap;
    return mine;
  }
};

/// No two operands lie alike: sizes nested in another order, gaps everywhere, dimensions apart, tokens
/// backwards.
void lay_strided(memory_view& v, role r) {
  nesting in;
  if (r == role::q) {
    v.dim_stride = in.next(v.dim, 3), v.head_stride = in.next(v.heads, 1);
    v.batch_stride = in.next(v.batch, 2), v.token_stride = in.next(v.tokens);
  } else if (r == role::k) {
    v.dim_stride = in.next(v.dim, 1), v.token_stride = in.next(v.tokens, 5);
    v.batch_stride = in.next(v.batch), v.head_stride = in.next(v.heads);
    v.token_stride = -v.token_stride;
  } else if (r == role::v) {
    in.stride = 2;
    v.token_stride = in.next(v.tokens, 1), v.dim_stride = in.next(v.dim, 2);
    v.head_stride = in.next(v.heads), v.batch_stride = in.next(v.batch);
  } else {
    in.stride = 3;
    v.dim_stride = in.next(v.dim, 2), v.token_stride = in.next(v.tokens, 7);
    v.head_stride = in.next(v.heads, 1), v.batch_stride = in.next(v.batch);
    v.dim_stride = -v.dim_stride;
  }
}

void lay(memory_view& v, layout l, role r) {
  nesting in;
  const index_type inner = l == layout::eigen_block && r != role::k ? 2 : 1;
  switch (l) {
    case layout::packed_qkv:
    case layout::bhsd:
      v.dim_stride = in.next(v.dim), v.token_stride = in.next(v.tokens);
      v.head_stride = in.next(v.heads), v.batch_stride = in.next(v.batch);
      return;
    case layout::bshd:
    case layout::eigen_row:
      v.dim_stride = in.next(v.dim), v.head_stride = in.next(v.heads);
      v.token_stride = in.next(v.tokens), v.batch_stride = in.next(v.batch);
      return;
    case layout::eigen_block:
    case layout::ragged:
      in.stride = inner;
      v.dim_stride = in.next(v.dim), v.head_stride = in.next(v.heads, 5), v.token_stride = in.next(v.tokens);
      return;
    case layout::eigen_col:
      v.token_stride = in.next(v.tokens, r == role::q ? 0 : 3), v.dim_stride = in.next(v.dim);
      v.head_stride = in.next(v.heads);
      return;
    case layout::strided:
      lay_strided(v, r);
      return;
  }
}

}  // namespace

buffer::buffer(element_kind kind, index_type elements, bool canaries)
    : kind_(kind),
      elements_(elements),
      bytes_(static_cast<std::size_t>((elements + 2 * guard) * format_of(kind).bytes), canary) {
  if (canaries) return;
  for (index_type i = -guard; i < elements + guard; ++i)
    encode(kind, std::numeric_limits<double>::quiet_NaN(), at(i));
}

unsigned char* buffer::at(index_type element) {
  return bytes_.data() + (guard + element) * format_of(kind_).bytes;
}

bool buffer::canaries_stand(const std::vector<bool>& written) const {
  const index_type size = format_of(kind_).bytes;
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    const index_type element = static_cast<index_type>(i) / size - guard;
    const bool free = element >= 0 && element < elements_ && written[static_cast<std::size_t>(element)];
    if (!free && bytes_[i] != canary) return false;
  }
  return true;
}

operand::operand(role r, layout l, element_kind kind, const std::vector<index_type>& tokens, index_type heads,
                 index_type most_tokens, index_type dim) {
  view_ = {nullptr, static_cast<index_type>(tokens.size()), heads, most_tokens, dim};
  if (l == layout::ragged) {  // two tokens before the first sequence and three behind the last belong to none
    offsets_ = std::make_shared<std::vector<index_type>>(1, 2);
    for (const index_type n : tokens) offsets_->push_back(offsets_->back() + n);
    view_.tokens = offsets_->back() + 3;
    view_.offsets = offsets_->data();
  }
  lay(view_, l, r);
  index_type lowest = 0, highest = 0;
  const auto reach = [&](index_type size, index_type stride) {
    (stride < 0 ? lowest : highest) += std::max<index_type>(size - 1, 0) * stride;
  };
  reach(view_.batch, view_.batch_stride), reach(heads, view_.head_stride);
  reach(view_.tokens, view_.token_stride), reach(dim, view_.dim_stride);
  memory_ = std::make_shared<buffer>(kind, highest - lowest + 1, r == role::out || r == role::lse);
  first_ = -lowest;
  view_.data = memory_->at(first_);
}

std::array<operand, 3> operand::packed(element_kind kind, const sizes& n) {
  const index_type row = (n.heads + 2 * n.kv_heads) * n.dim;
  const auto memory = std::make_shared<buffer>(kind, n.batch * n.queries * row, false);
  const auto part = [&](index_type first_head, index_type heads) {
    operand x;
    x.memory_ = memory, x.first_ = first_head * n.dim;
    x.view_ = {memory->at(x.first_), n.batch, heads, n.queries, n.dim, n.queries * row, n.dim, row, 1};
    return x;
  };
  return {part(0, n.heads), part(n.heads, n.kv_heads), part(n.heads + n.kv_heads, n.kv_heads)};
}

void* operand::element(index_type b, index_type h, index_type t, index_type c) const {
  return memory_->at(first_ + view_.place(b, h, t, c));
}

void operand::write(const array& a, const std::vector<index_type>& tokens) {
  for (index_type b = 0; b < a.batch; ++b)
    for (index_type h = 0; h < a.heads; ++h)
      for (index_type t = 0; t < tokens[static_cast<std::size_t>(b)]; ++t)
        for (index_type c = 0; c < a.dim; ++c) encode(memory_->kind(), a(b, h, t, c), element(b, h, t, c));
}

array operand::read(const std::vector<index_type>& tokens) const {
  array a(view_.batch, view_.heads, tokens.empty() ? 0 : *std::max_element(tokens.begin(), tokens.end()),
          view_.dim);
  for (index_type b = 0; b < a.batch; ++b)
    for (index_type h = 0; h < a.heads; ++h)
      for (index_type t = 0; t < tokens[static_cast<std::size_t>(b)]; ++t)
        for (index_type c = 0; c < a.dim; ++c) a(b, h, t, c) = decode(memory_->kind(), element(b, h, t, c));
  return a;
}

std::vector<bool> operand::elements_of(const std::vector<index_type>& tokens) const {
  std::vector<bool> all(static_cast<std::size_t>(memory_->elements()));
  for (index_type b = 0; b < view_.batch; ++b)
    for (index_type h = 0; h < view_.heads; ++h)
      for (index_type t = 0; t < tokens[static_cast<std::size_t>(b)]; ++t)
        for (index_type c = 0; c < view_.dim; ++c)
          all[static_cast<std::size_t>(first_ + view_.place(b, h, t, c))] = true;
  return all;
}

bool operand::canaries_stand(const std::vector<index_type>& tokens) const {
  return memory_->canaries_stand(elements_of(tokens));
}

bool operand::canaries_stand(const std::vector<index_type>& tokens, double of_no_sequence) const {
  std::vector<bool> written = elements_of(tokens);
  for (index_type t = 0; offsets_ && t < view_.tokens; ++t) {
    if (t >= offsets_->front() && t < offsets_->back()) continue;
    for (index_type h = 0; h < view_.heads; ++h)
      for (index_type c = 0; c < view_.dim; ++c) {
        const index_type at = first_ + h * view_.head_stride + t * view_.token_stride + c * view_.dim_stride;
        if (decode(memory_->kind(), memory_->at(at)) != of_no_sequence) return false;
        written[static_cast<std::size_t>(at)] = true;
      }
  }
  return memory_->canaries_stand(written);
}

}  // namespace fovea_test
