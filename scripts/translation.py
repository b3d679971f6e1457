from hf_radam.examples.translation import main

if __name__ == "__main__":
    main()
