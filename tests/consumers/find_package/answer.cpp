// Of each instruction set its own.
extern "C" const int* answer();
extern "C" const int* answer() {
  static constexpr int value = 42;
  return &value;
}
