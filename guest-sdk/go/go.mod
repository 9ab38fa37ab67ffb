module sglhost

go 1.24
