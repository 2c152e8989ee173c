//! Arguments to config to server to exit code.

fn main() {
    println!("{}", node::BUILD_ID);
}
