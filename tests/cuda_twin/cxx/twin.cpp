// All that runs kernels, in one translation unit: for a C++ program that launches them itself (launch.h).
#include "fault.cpp"
#include "fiber.cpp"
#include "launch.cpp"
#include "multiprocessor.cpp"
