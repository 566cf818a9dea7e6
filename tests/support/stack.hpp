// tests/support/stack.hpp - how much stack a call takes.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <stdexcept>

namespace fovea_test {

/// Runs f on a thread of its own with so many bytes of stack, which overflow into a page that ends the program.
template <class F>
void run_on_stack(std::size_t bytes, const F& f) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_t thread;
  const bool begun =
      pthread_attr_setstacksize(&attributes, bytes) == 0 && pthread_create(
                                                                &thread, &attributes,
                                                                [](void* of) -> void* {
                                                                  (*static_cast<const F*>(of))();
                                                                  return nullptr;
                                                                },
                                                                const_cast<F*>(&f)) == 0;
  pthread_attr_destroy(&attributes);
  if (!begun) throw std::runtime_error("no thread");
  pthread_join(thread, nullptr);
}

/// The bytes of stack that f takes: a painted stack shows how far down it was written to.
template <class F>
std::size_t stack_of(const F& f) {
  constexpr std::size_t size = 1024 * 1024;
  constexpr unsigned char paint = 0xa5;
  unsigned char* const memory = static_cast<unsigned char*>(std::aligned_alloc(4096, size));
  const std::unique_ptr<unsigned char, void (*)(void*)> owner(memory, std::free);
  std::fill_n(memory, size, paint);
  struct job {
    const F& f;
    const unsigned char* top;
  } mine{f, nullptr};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, memory, size);
  pthread_t thread;
  const bool begun = pthread_create(
                         &thread, &attributes,
                         [](void* of) -> void* {
                           job& here = *static_cast<job*>(of);
                           here.top = static_cast<const unsigned char*>(__builtin_frame_address(0));
                           here.f();
                           return nullptr;
                         },
                         &mine) == 0;
  pthread_attr_destroy(&attributes);
  if (!begun) throw std::runtime_error("no thread");
  pthread_join(thread, nullptr);
  const unsigned char* const deepest =
      std::find_if(memory, memory + size, [](unsigned char c) { return c != paint; });
  return mine.top > deepest ? static_cast<std::size_t>(mine.top - deepest) : 0;
}

}  // namespace fovea_test
