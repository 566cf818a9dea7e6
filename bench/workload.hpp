// bench/workload.hpp - a shape to time, written in words: "B=1,Hq=8,Lq=1024,d=64,mask=causal,dtype=f32".
#pragma once

#include "workload/text.hpp"
#include "workload/work.hpp"
