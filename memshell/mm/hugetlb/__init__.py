"""mm/hugetlb.c: pools of huge pages."""
