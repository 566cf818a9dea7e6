extern "C" const int* answer();
extern "C" const char* answer_isa();

int main() { return *answer() == 42 && answer_isa()[0] != 0 ? 0 : 1; }
